_base_ = 'mask_rcnn_xvit_s_3x.py'
train_pipeline = _base_.fixed800_pipeline
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
paper = None  # the paper's figures belong to the multi-scale recipe

_base_ = 'imagenet_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1]['scale'] = 384  # RandomResizedCrop
test_pipeline = _base_.test_pipeline
test_pipeline[1]['scale'] = 438  # ResizeEdge: 256 / 224 of the crop, as at 224
test_pipeline[2]['crop_size'] = 384

train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

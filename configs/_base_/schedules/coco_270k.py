# detectron2's 3x schedule, counted in iterations of 16 images, with an evaluation every 10,000 and a checkpoint every
# 5,000. Training resumes at any iteration.
_base_ = 'coco_1x.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=270000, val_interval=10000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=270000, milestones=[210000, 250000], gamma=0.1),
]

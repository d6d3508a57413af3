# A tenth of the epochs at 224, with the small constant learning rate of DeiT's fine-tuning at 384.
_base_ = 'imagenet_400e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-8))
train_cfg = dict(max_epochs=40)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.2, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
]

_base_ = 'adamw.py'

optim_wrapper = _base_.adamw
optim_wrapper['optimizer']['lr'] = 5e-4
train_cfg = dict(by_epoch=True, max_epochs=400, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    # from 1e-6, then down to 1e-5
    dict(type='LinearLR', start_factor=2e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=400),
]
auto_scale_lr = dict(enable=False, base_batch_size=512)  # 8 GPUs of 64 images

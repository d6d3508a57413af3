# XCiT's recipe for Semantic FPN and UPerNet (arXiv 2106.09681), which is Swin's.
_base_ = 'adamw.py'

optim_wrapper = {**_base_.adamw, 'optimizer': dict(type='AdamW', lr=6e-5, weight_decay=0.01)}
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=80000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)  # 8 GPUs of 2 images

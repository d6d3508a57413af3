# MoCo v2 and DenseCL train a ResNet by SGD, for 200 epochs at batch 256. For transformers these are MoCo v3's optimizer
# and warm-up (arXiv 2104.02057, Section 4): AdamW, 1.5e-4 at batch 256, weight decay 0.1, 40 epochs.
_base_ = 'adamw.py'

optim_wrapper = _base_.adamw
optim_wrapper['optimizer'] = dict(type='AdamW', lr=1.5e-4, weight_decay=0.1)
train_cfg = dict(by_epoch=True, max_epochs=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=40, end=200),
]
auto_scale_lr = dict(enable=False, base_batch_size=256)  # 8 GPUs of 32 images

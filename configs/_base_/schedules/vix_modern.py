# What the "Vision Xformers" recipe lacks: augmentation, warm-up with a cosine schedule, mixed precision on a GPU. A
# config in configs/classification/vix/ uses it with these lines (two bases may not set the same keys, hence `modern`):
#
#   _base_ = ['hybrid_vin_cifar10.py', '../../_base_/schedules/vix_modern.py']
#   train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_pipeline[:-1], *_base_.modern.augmentation]))
#   optim_wrapper = _base_.modern.optim_wrapper
#   param_scheduler = _base_.modern.param_scheduler
#   train_cfg = _base_.modern.train_cfg
modern = dict(
    augmentation=[  # replaces the pipeline's last step; for any image size
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(
            type='RandAugment',
            policies='timm_increasing',
            num_policies=2,
            total_level=10,
            magnitude_level=9,
            magnitude_std=0.5,
        ),
        dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.02, max_area_ratio=1 / 3),
        dict(type='PackInputs'),
    ],
    optim_wrapper=dict(type='AutoAmpOptimWrapper', optimizer=dict(weight_decay=0.05)),
    train_cfg=dict(max_epochs=100),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=100),
    ],
)

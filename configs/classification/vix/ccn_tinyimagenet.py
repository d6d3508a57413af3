_base_ = '../../_base_/ccx_tinyimagenet.py'

model = dict(backbone=dict(mixer='nystrom'))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=8,
    model='CCN',
    parameters=930_585,
    size_mb=101.61,
    top1=40.8,
    top5=67.81,
    gpu_gb_batch64=3.9,
    source='Vision Xformers, Table 4 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='nystrom', stem='conv'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=2,
    row=10,
    model='Hybrid ViN',
    parameters=648_216,
    size_mb=88.83,
    top1=34.05,
    top5=60.8,
    gpu_gb_batch64=3.6,
    source='Vision Xformers, Table 2 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='LeViX', mixer='nystrom', stem='conv'))
train_dataloader = dict(batch_size=192)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=4,
    model='LeViN',
    parameters=645_912,
    size_mb=77.26,
    top1=38.28,
    top5=64.94,
    gpu_gb_batch64=4.3,
    source='Vision Xformers, Table 4 (not measured here)',
)

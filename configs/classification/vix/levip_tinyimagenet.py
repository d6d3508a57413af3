_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='LeViX', mixer='performer', stem='conv'))
train_dataloader = dict(batch_size=192)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=2,
    model='LeViP',
    parameters=646_920,
    size_mb=77.27,
    top1=41.49,
    top5=68.39,
    gpu_gb_batch64=4.9,
    source='Vision Xformers, Table 4 (not measured here)',
)

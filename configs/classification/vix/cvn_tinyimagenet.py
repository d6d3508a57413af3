_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='CvX', mixer='nystrom'))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=12,
    model='CvN',
    parameters=851_416,
    size_mb=100.3,
    top1=45.47,
    top5=71.35,
    gpu_gb_batch64=4.0,
    source='Vision Xformers, Table 4 (not measured here)',
)

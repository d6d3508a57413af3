_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='CvX', mixer='performer'))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=10,
    model='CvP',
    parameters=852_424,
    size_mb=100.3,
    top1=45.26,
    top5=71.21,
    gpu_gb_batch64=4.4,
    source='Vision Xformers, Table 4 (not measured here)',
)

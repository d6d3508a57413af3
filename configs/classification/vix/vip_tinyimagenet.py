_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='performer'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=2,
    row=2,
    model='ViP',
    parameters=557_640,
    size_mb=85.35,
    top1=28.17,
    top5=53.93,
    gpu_gb_batch64=4.4,
    source='Vision Xformers, Table 2 (not measured here)',
)

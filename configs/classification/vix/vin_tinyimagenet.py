_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='nystrom'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=2,
    row=4,
    model='ViN',
    parameters=556_632,
    size_mb=86.82,
    top1=30.17,
    top5=55.97,
    gpu_gb_batch64=3.6,
    source='Vision Xformers, Table 2 (not measured here)',
)

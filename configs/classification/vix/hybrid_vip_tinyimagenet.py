_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='performer', stem='conv'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=2,
    row=8,
    model='Hybrid ViP',
    parameters=649_224,
    size_mb=87.36,
    top1=34.13,
    top5=60.42,
    gpu_gb_batch64=4.4,
    source='Vision Xformers, Table 2 (not measured here)',
)

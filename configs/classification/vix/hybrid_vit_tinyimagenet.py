_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='softmax', stem='conv'))
paper = dict(
    table=2,
    row=7,
    model='Hybrid ViT',
    parameters=647_688,
    size_mb=211.6,
    top1=34.48,
    top5=60.79,
    gpu_gb_batch64=14.1,
    source='Vision Xformers, Table 2 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='softmax'))
paper = dict(
    table=2,
    row=1,
    model='ViT',
    parameters=556_104,
    size_mb=209.59,
    top1=26.43,
    top5=51.82,
    gpu_gb_batch64=14.1,
    source='Vision Xformers, Table 2 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='softmax'))
paper = dict(
    table=1,
    row=1,
    model='ViT',
    parameters=530_442,
    size_mb=209.39,
    top1=56.81,
    top5=94.82,
    gpu_gb_batch64=14.1,
    source='Vision Xformers, Table 1 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='softmax', stem='conv'))
paper = dict(
    table=1,
    row=7,
    model='Hybrid ViT',
    parameters=623_178,
    size_mb=211.47,
    top1=73.94,
    top5=98.08,
    gpu_gb_batch64=14.1,
    source='Vision Xformers, Table 1 (not measured here)',
)

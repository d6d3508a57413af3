_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='PiX', mixer='performer', stem='conv'), head=dict(in_channels=256))
paper = dict(
    table=5,
    row=6,
    model='Hybrid PiP',
    parameters=991_306,
    size_mb=66.15,
    top1=71.37,
    top5=97.88,
    gpu_gb_batch64=5.2,
    source='Vision Xformers, Table 5 (not measured here)',
)

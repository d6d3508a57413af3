_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='PiX', mixer='performer'), head=dict(in_channels=256))
paper = dict(
    table=5,
    row=3,
    model='PiP',
    parameters=898_570,
    size_mb=64.09,
    top1=65.83,
    top5=97.28,
    gpu_gb_batch64=5.2,
    source='Vision Xformers, Table 5 (not measured here)',
)

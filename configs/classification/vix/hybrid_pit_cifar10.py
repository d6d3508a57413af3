_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='PiX', mixer='softmax', stem='conv'), head=dict(in_channels=256))
paper = dict(
    table=5,
    row=4,
    model='Hybrid PiT',
    parameters=989_770,
    size_mb=131.8,
    top1=73.34,
    top5=98.11,
    gpu_gb_batch64=14.8,
    source='Vision Xformers, Table 5 (not measured here)',
)

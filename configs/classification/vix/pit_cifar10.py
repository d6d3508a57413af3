_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='PiX', mixer='softmax'), head=dict(in_channels=256))
paper = dict(
    table=5,
    row=1,
    model='PiT',
    parameters=897_034,
    size_mb=129.74,
    top1=63.49,
    top5=96.95,
    gpu_gb_batch64=14.7,
    source='Vision Xformers, Table 5 (not measured here)',
)

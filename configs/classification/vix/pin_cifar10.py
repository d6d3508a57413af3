_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='PiX', mixer='nystrom'), head=dict(in_channels=256))
paper = dict(
    table=5,
    row=2,
    model='PiN',
    parameters=897_562,
    size_mb=65.81,
    top1=69.41,
    top5=97.68,
    gpu_gb_batch64=5.7,
    source='Vision Xformers, Table 5 (not measured here)',
)

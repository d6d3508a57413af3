_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='PiX', mixer='nystrom', stem='conv'), head=dict(in_channels=256))
paper = dict(
    table=5,
    row=5,
    model='Hybrid PiN',
    parameters=990_298,
    size_mb=67.87,
    top1=74.0,
    top5=98.03,
    gpu_gb_batch64=5.7,
    source='Vision Xformers, Table 5 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='nystrom'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=1,
    row=4,
    model='ViN',
    parameters=530_970,
    size_mb=86.62,
    top1=65.06,
    top5=96.42,
    gpu_gb_batch64=4.8,
    source='Vision Xformers, Table 1 (not measured here)',
)

_base_ = '../../_base_/ccx_cifar10.py'

model = dict(backbone=dict(mixer='nystrom'))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=8,
    model='CCN',
    parameters=906_075,
    size_mb=101.48,
    top1=83.36,
    top5=99.07,
    gpu_gb_batch64=4.2,
    source='Vision Xformers, Table 3 (not measured here)',
)

_base_ = '../../_base_/ccx_cifar10.py'

model = dict(backbone=dict(mixer='performer'))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=6,
    model='CCP',
    parameters=907_083,
    size_mb=101.48,
    top1=82.48,
    top5=99.06,
    gpu_gb_batch64=4.3,
    source='Vision Xformers, Table 3 (not measured here)',
)

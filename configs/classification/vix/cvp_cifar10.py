_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='CvX', mixer='performer'))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=10,
    model='CvP',
    parameters=827_914,
    size_mb=100.17,
    top1=83.19,
    top5=99.2,
    gpu_gb_batch64=4.8,
    source='Vision Xformers, Table 3 (not measured here)',
)

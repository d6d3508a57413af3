_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='CvX', mixer='nystrom'))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=12,
    model='CvN',
    parameters=826_906,
    size_mb=100.17,
    top1=83.26,
    top5=99.14,
    gpu_gb_batch64=4.3,
    source='Vision Xformers, Table 3 (not measured here)',
)

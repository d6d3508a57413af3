_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='CvX', mixer=dict(type='softmax', head_dims=64)))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=9,
    model='CvT',
    parameters=1_099_786,
    size_mb=173.21,
    top1=79.93,
    top5=99.02,
    gpu_gb_batch64=12.8,
    source='Vision Xformers, Table 3 (not measured here)',
)

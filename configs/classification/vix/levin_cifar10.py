_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='LeViX', mixer='nystrom', stem='conv'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=3,
    row=4,
    model='LeViN',
    parameters=621_402,
    size_mb=77.13,
    top1=77.81,
    top5=98.61,
    gpu_gb_batch64=4.3,
    source='Vision Xformers, Table 3 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='CvX', mixer='linformer'))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=11,
    model='CvL',
    parameters=711_690,
    size_mb=92.73,
    top1=72.58,
    top5=97.81,
    gpu_gb_batch64=2.6,
    source='Vision Xformers, Table 3 (not measured here)',
)

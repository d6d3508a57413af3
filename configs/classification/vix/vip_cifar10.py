_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='performer'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=1,
    row=2,
    model='ViP',
    parameters=531_978,
    size_mb=85.15,
    top1=58.23,
    top5=94.89,
    gpu_gb_batch64=5.0,
    source='Vision Xformers, Table 1 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='performer', stem='conv'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=1,
    row=8,
    model='Hybrid ViP',
    parameters=624_714,
    size_mb=87.23,
    top1=74.98,
    top5=98.41,
    gpu_gb_batch64=5.0,
    source='Vision Xformers, Table 1 (not measured here)',
)

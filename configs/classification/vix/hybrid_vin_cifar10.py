_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='nystrom', stem='conv'))
train_dataloader = dict(batch_size=128)
paper = dict(
    table=1,
    row=10,
    model='Hybrid ViN',
    parameters=623_706,
    size_mb=88.7,
    top1=75.26,
    top5=98.39,
    gpu_gb_batch64=4.8,
    source='Vision Xformers, Table 1 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='linformer', stem='conv'))
train_dataloader = dict(batch_size=256)
paper = dict(
    table=1,
    row=9,
    model='Hybrid ViL',
    parameters=508_490,
    size_mb=79.78,
    top1=63.17,
    top5=95.75,
    gpu_gb_batch64=2.2,
    source='Vision Xformers, Table 1 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='fourier'))
train_dataloader = dict(batch_size=512)
train_cfg = dict(max_epochs=100)
paper = dict(
    table=1,
    row=5,
    model='FNet',
    parameters=267_786,
    size_mb=60.12,
    top1=50.87,
    top5=93.22,
    gpu_gb_batch64=1.5,
    source='Vision Xformers, Table 1 (not measured here)',
)

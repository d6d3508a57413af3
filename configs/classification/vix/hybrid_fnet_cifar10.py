_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='fourier', stem='conv'))
train_dataloader = dict(batch_size=512)
train_cfg = dict(max_epochs=100)
paper = dict(
    table=1,
    row=11,
    model='Hybrid FNet',
    parameters=360_522,
    size_mb=62.2,
    top1=64.34,
    top5=96.95,
    gpu_gb_batch64=1.6,
    source='Vision Xformers, Table 1 (not measured here)',
)

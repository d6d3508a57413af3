_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='linformer'))
train_dataloader = dict(batch_size=256)
paper = dict(
    table=1,
    row=3,
    model='ViL',
    parameters=415_754,
    size_mb=77.7,
    top1=57.45,
    top5=95.11,
    gpu_gb_batch64=2.2,
    source='Vision Xformers, Table 1 (not measured here)',
)

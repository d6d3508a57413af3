_base_ = '../../_base_/ccx_cifar10.py'

model = dict(backbone=dict(mixer='linformer'))
train_dataloader = dict(batch_size=160)
paper = dict(
    table=3,
    row=7,
    model='CCL',
    parameters=790_859,
    size_mb=94.04,
    top1=80.05,
    top5=98.92,
    gpu_gb_batch64=3.5,
    source='Vision Xformers, Table 3 (not measured here)',
)

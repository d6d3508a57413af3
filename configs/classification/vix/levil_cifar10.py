_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='LeViX', mixer='linformer', stem='conv'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=3,
    row=3,
    model='LeViL',
    parameters=506_186,
    size_mb=69.69,
    top1=63.17,
    top5=96.13,
    gpu_gb_batch64=2.3,
    source='Vision Xformers, Table 3 (not measured here)',
)

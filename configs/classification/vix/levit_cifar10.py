_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='LeViX', mixer='softmax', stem='conv'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=3,
    row=1,
    model='LeViT',
    parameters=624_970,
    size_mb=213.15,
    top1=77.06,
    top5=98.46,
    gpu_gb_batch64=13.9,
    source='Vision Xformers, Table 3 (not measured here)',
)

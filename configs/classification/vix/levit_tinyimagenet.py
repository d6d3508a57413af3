_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='LeViX', mixer='softmax', stem='conv'))
train_dataloader = dict(batch_size=192)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=1,
    model='LeViT',
    parameters=649_480,
    size_mb=213.28,
    top1=38.29,
    top5=65.23,
    gpu_gb_batch64=14.0,
    source='Vision Xformers, Table 4 (not measured here)',
)

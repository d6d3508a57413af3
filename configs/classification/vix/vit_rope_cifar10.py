_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='softmax', position='rotary'))
paper = dict(
    table=6,
    row=1,
    model='ViT RoPE',
    top1=69.32,
    top5=97.68,
    gpu_gb_batch64=14.4,
    source='Vision Xformers, Table 6 (not measured here)',
)

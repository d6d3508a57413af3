_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='softmax', stem='conv', position='rotary'))
paper = dict(
    table=6,
    row=5,
    model='Hybrid ViT RoPE',
    top1=76.9,
    top5=98.6,
    gpu_gb_batch64=14.5,
    source='Vision Xformers, Table 6 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='nystrom', position='rotary'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=6,
    row=4,
    model='ViN RoPE',
    top1=68.36,
    top5=97.28,
    gpu_gb_batch64=5.2,
    source='Vision Xformers, Table 6 (not measured here)',
)

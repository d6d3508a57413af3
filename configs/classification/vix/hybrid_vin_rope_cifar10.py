_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='nystrom', stem='conv', position='rotary'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=6,
    row=8,
    model='Hybrid ViN RoPE',
    top1=74.38,
    top5=97.64,
    gpu_gb_batch64=5.2,
    source='Vision Xformers, Table 6 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='performer', position='rotary'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=6,
    row=2,
    model='ViP RoPE',
    top1=60.74,
    top5=95.62,
    gpu_gb_batch64=5.2,
    source='Vision Xformers, Table 6 (not measured here)',
)

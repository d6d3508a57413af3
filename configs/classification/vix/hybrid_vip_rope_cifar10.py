_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='performer', stem='conv', position='rotary'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=6,
    row=6,
    model='Hybrid ViP RoPE',
    top1=76.86,
    top5=98.37,
    gpu_gb_batch64=5.2,
    source='Vision Xformers, Table 6 (not measured here)',
)

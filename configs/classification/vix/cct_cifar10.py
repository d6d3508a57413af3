_base_ = '../../_base_/ccx_cifar10.py'

model = dict(backbone=dict(mixer=dict(type='softmax', attn_drop=0.1)))
train_dataloader = dict(batch_size=48)
paper = dict(
    table=3,
    row=5,
    model='CCT',
    parameters=905_547,
    size_mb=225.47,
    top1=82.23,
    top5=99.04,
    gpu_gb_batch64=14.7,
    source='Vision Xformers, Table 3 (not measured here)',
)

_base_ = '../../_base_/ccx_tinyimagenet.py'

model = dict(backbone=dict(mixer=dict(type='softmax', attn_drop=0.1)))
train_dataloader = dict(batch_size=48)
paper = dict(
    table=4,
    row=5,
    model='CCT',
    parameters=930_057,
    size_mb=225.61,
    top1=39.05,
    top5=65.74,
    gpu_gb_batch64=14.2,
    source='Vision Xformers, Table 4 (not measured here)',
)

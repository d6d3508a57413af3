_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(arch='paper_mixer', mixer='mlp', position='none', out_type='avg_featmap'))
train_dataloader = dict(batch_size=640)
paper = dict(
    table=1,
    row=6,
    model='MLP Mixer',
    parameters=8_533_002,
    size_mb=90.59,
    top1=60.33,
    top5=95.79,
    gpu_gb_batch64=1.4,
    source='Vision Xformers, Table 1 (not measured here)',
)

_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(arch='paper_mixer', mixer='mlp', position='none', out_type='avg_featmap', stem='conv'))
train_dataloader = dict(batch_size=640)
paper = dict(
    table=1,
    row=12,
    model='Hybrid MLP Mixer',
    parameters=8_625_738,
    size_mb=92.67,
    top1=61.58,
    top5=96.26,
    gpu_gb_batch64=1.4,
    source='Vision Xformers, Table 1 (not measured here)',
)

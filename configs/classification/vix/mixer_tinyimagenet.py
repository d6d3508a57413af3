_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(arch='paper_mixer', mixer='mlp', position='none', out_type='avg_featmap'))
train_dataloader = dict(batch_size=640)
paper = dict(
    table=2,
    row=6,
    model='MLP Mixer',
    parameters=8_558_664,
    size_mb=90.79,
    top1=18.47,
    top5=42.16,
    gpu_gb_batch64=1.2,
    source='Vision Xformers, Table 2 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(arch='paper_mixer', mixer='mlp', position='none', out_type='avg_featmap', stem='conv'))
train_dataloader = dict(batch_size=640)
paper = dict(
    table=2,
    row=12,
    model='Hybrid MLP Mixer',
    parameters=8_650_248,
    size_mb=92.8,
    top1=22.76,
    top5=47.33,
    gpu_gb_batch64=1.2,
    source='Vision Xformers, Table 2 (not measured here)',
)

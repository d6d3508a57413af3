_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='fourier'))
train_dataloader = dict(batch_size=512)
train_cfg = dict(max_epochs=100)
paper = dict(
    table=2,
    row=5,
    model='FNet',
    parameters=293_448,
    size_mb=60.32,
    top1=22.75,
    top5=49.85,
    gpu_gb_batch64=1.5,
    source='Vision Xformers, Table 2 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='fourier', stem='conv'))
train_dataloader = dict(batch_size=512)
train_cfg = dict(max_epochs=100)
paper = dict(
    table=2,
    row=11,
    model='Hybrid FNet',
    parameters=385_032,
    size_mb=62.33,
    top1=26.39,
    top5=51.86,
    gpu_gb_batch64=1.6,
    source='Vision Xformers, Table 2 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='linformer', stem='conv'))
train_dataloader = dict(batch_size=256)
paper = dict(
    table=2,
    row=9,
    model='Hybrid ViL',
    parameters=533_000,
    size_mb=79.91,
    top1=26.9,
    top5=52.88,
    gpu_gb_batch64=2.2,
    source='Vision Xformers, Table 2 (not measured here)',
)

# The size is a misprint in the paper: 69.82.
_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='LeViX', mixer='linformer', stem='conv'))
train_dataloader = dict(batch_size=192)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=3,
    model='LeViL',
    parameters=530_696,
    size_mb=69.89,
    top1=26.52,
    top5=51.85,
    gpu_gb_batch64=3.3,
    source='Vision Xformers, Table 4 (not measured here)',
)

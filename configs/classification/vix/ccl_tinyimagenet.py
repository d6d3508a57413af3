_base_ = '../../_base_/ccx_tinyimagenet.py'

model = dict(backbone=dict(mixer='linformer'))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=7,
    model='CCL',
    parameters=815_369,
    size_mb=94.17,
    top1=37.24,
    top5=62.97,
    gpu_gb_batch64=2.3,
    source='Vision Xformers, Table 4 (not measured here)',
)

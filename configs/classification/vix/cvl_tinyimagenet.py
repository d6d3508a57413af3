_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='CvX', mixer='linformer'))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=11,
    model='CvL',
    parameters=736_200,
    size_mb=92.86,
    top1=33.95,
    top5=61.29,
    gpu_gb_batch64=2.3,
    source='Vision Xformers, Table 4 (not measured here)',
)

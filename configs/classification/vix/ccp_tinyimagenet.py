_base_ = '../../_base_/ccx_tinyimagenet.py'

model = dict(backbone=dict(mixer='performer'))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=6,
    model='CCP',
    parameters=931_593,
    size_mb=101.61,
    top1=40.11,
    top5=66.93,
    gpu_gb_batch64=4.1,
    source='Vision Xformers, Table 4 (not measured here)',
)

_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(type='CvX', mixer=dict(type='softmax', head_dims=64)))
train_dataloader = dict(batch_size=160)
train_cfg = dict(max_epochs=150)
paper = dict(
    table=4,
    row=9,
    model='CvT',
    parameters=1_124_296,
    size_mb=173.34,
    top1=40.69,
    top5=68.19,
    gpu_gb_batch64=12.3,
    source='Vision Xformers, Table 4 (not measured here)',
)

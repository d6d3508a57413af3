_base_ = '../../_base_/vix_tinyimagenet.py'

model = dict(backbone=dict(mixer='linformer'))
train_dataloader = dict(batch_size=256)
paper = dict(
    table=2,
    row=3,
    model='ViL',
    parameters=441_416,
    size_mb=77.9,
    top1=24.38,
    top5=49.31,
    gpu_gb_batch64=2.0,
    source='Vision Xformers, Table 2 (not measured here)',
)

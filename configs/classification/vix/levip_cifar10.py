_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(type='LeViX', mixer='performer', stem='conv'))
train_dataloader = dict(batch_size=192)
paper = dict(
    table=3,
    row=2,
    model='LeViP',
    parameters=662_410,
    corrected_parameters=622_410,  # the printed figure is a misprint
    size_mb=77.14,
    top1=79.5,
    top5=98.91,
    gpu_gb_batch64=4.9,
    source='Vision Xformers, Table 3 (not measured here)',
)

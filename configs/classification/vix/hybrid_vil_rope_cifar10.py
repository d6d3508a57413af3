# One key head that all queries share; the paper's code has one for each: see vil_rope_cifar10.py.
_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='linformer', stem='conv', position='rotary'))
train_dataloader = dict(batch_size=320)
paper = dict(
    table=6,
    row=7,
    model='Hybrid ViL RoPE',
    top1=64.4,
    top5=96.63,
    gpu_gb_batch64=2.7,
    source='Vision Xformers, Table 6 (not measured here)',
)

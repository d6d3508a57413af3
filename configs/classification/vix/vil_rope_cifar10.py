# One key head that all queries share, as without rotary positions; the paper's code changes to one for each head,
# which is `one_kv_head=False`: 464,906 parameters by its own count, 557,642 in the hybrid.
_base_ = '../../_base_/vix_cifar10.py'

model = dict(backbone=dict(mixer='linformer', position='rotary'))
train_dataloader = dict(batch_size=320)
paper = dict(
    table=6,
    row=3,
    model='ViL RoPE',
    top1=55.88,
    top5=94.61,
    gpu_gb_batch64=2.7,
    source='Vision Xformers, Table 6 (not measured here)',
)

# MoCo v2 (arXiv 2003.04297): momentum 0.999, 65,536 negatives, temperature 0.2, two layers of 2,048 and 128 on top.
model = dict(
    type='MoCo',
    queue_len=65536,  # a multiple of the batch of all processes
    feat_dim=128,
    momentum=0.001,
    backbone=dict(type='XViT', arch='small', out_type='featmap'),
    neck=dict(type='MoCoV2Neck', in_channels=384, hid_channels=2048, out_channels=128, with_avg_pool=True),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)

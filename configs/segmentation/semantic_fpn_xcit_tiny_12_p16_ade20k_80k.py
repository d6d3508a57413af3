_base_ = 'semantic_fpn_xcit_small_12_p16_ade20k_80k.py'

model = dict(
    backbone=dict(arch='tiny_12', drop_path_rate=0.0),
    neck=dict(in_channels=[192] * 4, out_channels=192),
    decode_head=dict(in_channels=[192] * 4),
)
published = dict(mIoU=38.1)

_base_ = 'semantic_fpn_xcit_small_12_p16_ade20k_80k.py'

model = dict(
    backbone=dict(arch='medium_24', drop_path_rate=0.2),
    neck=dict(in_channels=[512] * 4, out_channels=512),
    decode_head=dict(in_channels=[512] * 4),
)
published = dict(mIoU=45.9)

_base_ = 'upernet_xcit_small_12_p16_ade20k_160k.py'

model = dict(
    backbone=dict(arch='tiny_12', drop_path_rate=0.0),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
published = dict(mIoU=41.5)

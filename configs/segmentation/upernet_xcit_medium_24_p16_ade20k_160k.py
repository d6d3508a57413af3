_base_ = 'upernet_xcit_small_12_p16_ade20k_160k.py'

model = dict(
    backbone=dict(arch='medium_24', drop_path_rate=0.15),
    decode_head=dict(in_channels=[512] * 4),
    auxiliary_head=dict(in_channels=512),
)
published = dict(mIoU=47.6)

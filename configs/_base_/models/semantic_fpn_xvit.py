_base_ = 'segmentor_xvit.py'

model = dict(
    neck=dict(type='FPN', in_channels=[384] * 4, out_channels=384, num_outs=4),
    decode_head=dict(
        type='FPNHead',
        in_channels=[384] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        num_classes=150,
        norm_cfg=dict(type='BN'),
    ),
)

_base_ = 'segmentor_xvit.py'

model = dict(
    decode_head=dict(
        type='SegformerHead',
        in_channels=[384] * 4,
        in_index=[0, 1, 2, 3],
        channels=256,
        num_classes=150,
        norm_cfg=dict(type='BN'),
    )
)

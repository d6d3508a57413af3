_base_ = 'vix_tinyimagenet.py'

# CCT draws the head's weights like those of its other linear layers, and starts its bias at 0.
model = dict(
    backbone=dict(type='CCX', drop_path_rate=0.1),
    head=dict(init_cfg=dict(_delete_=True, type='TruncNormal', layer='Linear', std=0.02)),
)

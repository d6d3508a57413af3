_base_ = 'upernet_xvit_s_ade20k_160k.py'

model = dict(
    backbone=dict(_delete_=True, type='ViX', arch='small', mixer=dict(type='nystrom', landmarks=64), drop_path_rate=0.1)
)

_base_ = 'semantic_fpn_xvit_s_ade20k_80k.py'

model = dict(
    backbone=dict(_delete_=True, type='ViX', arch='small', mixer=dict(type='performer', eps=1e-9), drop_path_rate=0.1)
)

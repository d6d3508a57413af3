_base_ = 'semantic_fpn_xcit_small_12_p16_ade20k_80k.py'

model = dict(backbone=dict(arch='small_24', drop_path_rate=0.1))
published = dict(mIoU=44.6)

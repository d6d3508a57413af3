_base_ = 'semantic_fpn_xcit_tiny_12_p16_ade20k_80k.py'

model = dict(backbone=dict(patch_size=8))
published = dict(mIoU=39.9)

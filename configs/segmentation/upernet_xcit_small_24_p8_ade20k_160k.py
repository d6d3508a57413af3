_base_ = 'upernet_xcit_small_24_p16_ade20k_160k.py'

model = dict(backbone=dict(patch_size=8))
published = dict(mIoU=48.1)

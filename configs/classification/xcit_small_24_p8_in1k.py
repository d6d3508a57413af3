_base_ = 'xcit_small_24_p16_in1k.py'

model = dict(backbone=dict(patch_size=8))
published = dict(top1=83.9)

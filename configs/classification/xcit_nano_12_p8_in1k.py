_base_ = 'xcit_nano_12_p16_in1k.py'

model = dict(backbone=dict(patch_size=8))
published = dict(top1=73.8)

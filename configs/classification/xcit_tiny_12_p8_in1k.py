_base_ = 'xcit_tiny_12_p16_in1k.py'

model = dict(backbone=dict(patch_size=8))
published = dict(top1=79.7)

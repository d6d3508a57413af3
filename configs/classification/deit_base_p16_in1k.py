_base_ = 'deit_small_p16_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
published = dict(top1=81.8)

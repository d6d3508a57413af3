_base_ = 'deit_small_p16_in1k.py'

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=192))
published = dict(top1=72.2)

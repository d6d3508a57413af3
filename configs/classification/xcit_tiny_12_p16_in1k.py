_base_ = 'xcit_small_12_p16_in1k.py'

model = dict(backbone=dict(arch='tiny_12', drop_path_rate=0.0), head=dict(in_channels=192))
published = dict(top1=77.1)

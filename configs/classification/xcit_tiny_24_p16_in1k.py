_base_ = 'xcit_small_12_p16_in1k.py'

model = dict(backbone=dict(arch='tiny_24', drop_path_rate=0.05), head=dict(in_channels=192))
published = dict(top1=79.4)

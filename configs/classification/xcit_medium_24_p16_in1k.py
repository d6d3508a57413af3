_base_ = 'xcit_small_12_p16_in1k.py'

model = dict(backbone=dict(arch='medium_24', drop_path_rate=0.15), head=dict(in_channels=512))
published = dict(top1=82.7)

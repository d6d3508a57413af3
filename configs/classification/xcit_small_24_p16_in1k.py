_base_ = 'xcit_small_12_p16_in1k.py'

model = dict(backbone=dict(arch='small_24', drop_path_rate=0.1))
published = dict(top1=82.6)

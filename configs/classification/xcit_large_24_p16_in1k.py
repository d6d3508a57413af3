_base_ = 'xcit_small_12_p16_in1k.py'

model = dict(backbone=dict(arch='large_24', drop_path_rate=0.25), head=dict(in_channels=768))
published = dict(top1=82.9)

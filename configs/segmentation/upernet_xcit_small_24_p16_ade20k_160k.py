_base_ = 'upernet_xcit_small_12_p16_ade20k_160k.py'

model = dict(backbone=dict(arch='small_24', drop_path_rate=0.1))
published = dict(mIoU=46.9)

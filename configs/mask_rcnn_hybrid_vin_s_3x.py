_base_ = 'mask_rcnn_vin_s_3x.py'

model = dict(backbone=dict(stem='deep_conv'))

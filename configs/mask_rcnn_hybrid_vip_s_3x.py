_base_ = 'mask_rcnn_vip_s_3x.py'

model = dict(backbone=dict(stem='deep_conv'))

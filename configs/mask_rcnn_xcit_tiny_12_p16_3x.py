_base_ = 'mask_rcnn_xcit_small_12_p16_3x.py'

model = dict(backbone=dict(arch='tiny_12', drop_path_rate=0.0), neck=dict(in_channels=[192] * 4))
published = dict(bbox_mAP=42.7, segm_mAP=38.5)

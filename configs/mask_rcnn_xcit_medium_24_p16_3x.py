_base_ = 'mask_rcnn_xcit_small_12_p16_3x.py'

model = dict(backbone=dict(arch='medium_24', drop_path_rate=0.15), neck=dict(in_channels=[512] * 4))
published = dict(bbox_mAP=46.7, segm_mAP=42.0)

_base_ = 'mask_rcnn_xcit_small_12_p16_3x.py'

model = dict(backbone=dict(patch_size=8))
published = dict(bbox_mAP=47.0, segm_mAP=42.3)

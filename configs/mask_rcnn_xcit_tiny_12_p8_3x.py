_base_ = 'mask_rcnn_xcit_tiny_12_p16_3x.py'

model = dict(backbone=dict(patch_size=8))
published = dict(bbox_mAP=44.5, segm_mAP=40.3)

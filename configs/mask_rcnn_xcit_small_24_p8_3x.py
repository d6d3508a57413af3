_base_ = 'mask_rcnn_xcit_small_24_p16_3x.py'

model = dict(backbone=dict(patch_size=8))
published = dict(bbox_mAP=48.1, segm_mAP=43.0)

_base_ = 'mask_rcnn_xcit_small_12_p16_3x.py'

model = dict(backbone=dict(arch='small_24', drop_path_rate=0.1))
published = dict(bbox_mAP=46.5, segm_mAP=41.8)

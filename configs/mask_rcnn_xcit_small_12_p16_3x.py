# XCiT (arXiv 2106.09681) as its authors trained it, without a mask for padding.
_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

model = dict(backbone=dict(arch='small_12', mixer='xca', mask_padding=False))
published = dict(bbox_mAP=45.3, segm_mAP=40.8, source="XCiT's authors, for their weights (not measured here)")

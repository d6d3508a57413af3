# Twelve epochs at a fixed size, for quick comparisons. Not in the paper.
_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x.py',
    '_base_/runtime/mmdet.py',
]

# Twelve epochs at the fixed size, the usual quick comparison. The paper has no such row.
_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x.py',
    '_base_/runtime/mmdet.py',
]

_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

model = dict(backbone=dict(arch='medium', drop_path_rate=0.1), neck=dict(in_channels=[384] * 4))
paper = dict(bbox_mAP=46.0, segm_mAP=41.0, source='X-ViT paper, Table 2, X-ViT-M (not measured here)')

_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

model = dict(backbone=dict(arch='base', drop_path_rate=0.15), neck=dict(in_channels=[512] * 4))
paper = dict(bbox_mAP=45.8, segm_mAP=41.2, source='X-ViT paper, Table 2, X-ViT-B (not measured here)')

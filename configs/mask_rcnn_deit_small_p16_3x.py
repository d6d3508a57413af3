# A detector to start from DeiT's ImageNet weights: softmax attention, whose cost grows with the square of the tokens.
_base_ = [
    '_base_/models/mask_rcnn_vix.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x.py',
    '_base_/runtime/mmdet.py',
]

model = dict(backbone=dict(mixer=dict(type='softmax', qkv_bias=True), norm_eps=1e-6))

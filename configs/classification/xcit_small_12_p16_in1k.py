# XCiT (arXiv 2106.09681), by X-ViT's recipe, which like XCiT's follows DeiT's.
_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_224_full_crop.py',
    '../_base_/schedules/imagenet_400e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(backbone=dict(arch='small_12', mixer='xca'))
published = dict(top1=82.0, source="XCiT's authors, for their weights (not measured here)")

# XCiT (arXiv 2106.09681) as its authors trained it, without a mask for padding.
_base_ = [
    '../_base_/models/semantic_fpn_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_80k.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(backbone=dict(arch='small_12', mixer='xca', mask_padding=False))
published = dict(mIoU=43.9, source="XCiT's authors, for their weights (not measured here)")

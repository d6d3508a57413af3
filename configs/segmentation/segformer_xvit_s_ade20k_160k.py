# SegFormer's MLP head on X-ViT-S; it trains at ten times the learning rate (arXiv 2105.15203).
_base_ = [
    '../_base_/models/segformer_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/runtime/mmseg.py',
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))))

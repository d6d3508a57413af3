# Mask2Former on X-ViT-S, with the optimizer of its paper (arXiv 2112.01527), but one learning rate for all layers.
_base_ = [
    '../_base_/models/mask2former_xvit.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/runtime/mmseg.py',
]

custom_imports = dict(imports=['xvit_det', 'mmdet.models'])
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(
        custom_keys=dict(
            query_embed=dict(decay_mult=0.0),
            query_feat=dict(decay_mult=0.0),
            level_embed=dict(decay_mult=0.0),
        )
    ),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=160000)]

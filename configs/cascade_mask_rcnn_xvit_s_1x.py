# X-ViT-S in mmdet's own Cascade Mask R-CNN.
_base_ = ['mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', '_base_/schedules/adamw.py']
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
model = dict(
    backbone=dict(_delete_=True, type='XViT', arch='small', drop_path_rate=0.05, mask_padding=True),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(_delete_=True, **_base_.adamw)  # instead of the base file's SGD, which suits ResNets

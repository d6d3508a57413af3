# X-ViT-S in mmdet's own RetinaNet, which starts at stride 8: three maps, all used by its neck.
_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '_base_/schedules/adamw.py']
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, type='XViT', arch='small', out_strides=(8, 16, 32), drop_path_rate=0.05, mask_padding=True
    ),
    neck=dict(in_channels=[384] * 3, start_level=0),
)
optim_wrapper = dict(_delete_=True, **_base_.adamw)  # instead of the base file's SGD, which suits ResNets

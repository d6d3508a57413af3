# X-ViT-S in mmdet's own DINO, which starts at stride 8: three maps.
_base_ = 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports=['xvit_det'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, type='XViT', arch='small', out_strides=(8, 16, 32), drop_path_rate=0.05, mask_padding=True
    ),
    neck=dict(in_channels=[384] * 3),
)

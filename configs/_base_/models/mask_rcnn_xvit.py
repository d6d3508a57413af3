_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# No ImageNet weights are published. To load those you train with configs/classification/, add to `backbone`:
#   init_cfg=dict(type='Pretrained', checkpoint='work_dirs/xvit_s_in1k/epoch_400.pth', prefix='backbone.')
model = dict(
    backbone=dict(_delete_=True, type='XViT', arch='small', drop_path_rate=0.05, mask_padding=True),
    neck=dict(in_channels=[384] * 4),
)

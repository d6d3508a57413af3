# X-ViT-S learns the maps of a frozen network (arXiv 2205.14141) on any images. Give the teacher its weights:
#   --cfg-options model.teacher.init_cfg.type=Pretrained model.teacher.init_cfg.checkpoint=FILE
# Any backbone of OpenMMLab that returns maps can be the teacher, see docs/mmpretrain.md.
_base_ = [
    '../_base_/datasets/imagenet_mocov2.py',
    '../_base_/schedules/selfsup_200e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(
    type='FeatureDistillation',
    backbone=dict(type='XViT', arch='small', out_type='featmap'),
    teacher=dict(type='XViT', arch='small_12', mixer='xca', out_type='featmap'),  # XCiT
    teacher_channels=384,
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='MultiView', num_views=1, transforms=[_base_.view_pipeline]),
            dict(type='PackInputs'),
        ]
    )
)

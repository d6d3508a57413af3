# The paper has no ImageNet models. The recipe is X-ViT's: DeiT's, for 400 epochs.
_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_400e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='ViX',
        arch='small',
        mixer=dict(type='performer', eps=1e-9),
        out_type='cls_token',
        drop_path_rate=0.1,
    )
)

# MoCo v2's two views of each image. Labels are not read: any folder of images will do, see docs/mmpretrain.md.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32_mocov2.py'

train_dataloader = dict(
    collate_fn=dict(
        _delete_=True, type='default_collate'
    ),  # without the scope of the base file, which it would be given
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/imagenet',
        data_prefix='train',  # with all folders in it
        with_label=False,
        pipeline=_base_.train_pipeline,
    ),
)

_base_ = [
    '../_base_/models/upernet_xvit.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/segmentation_160k.py',
    '../_base_/runtime/mmseg.py',
]

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
)

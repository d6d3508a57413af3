_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_400e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(backbone=dict(arch='medium', drop_path_rate=0.1), head=dict(in_channels=384))
paper = dict(top1=82.8, source='X-ViT paper, Table 1, X-ViT-M (not measured here)')

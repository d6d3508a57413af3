_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_400e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(backbone=dict(arch='tiny', drop_path_rate=0.05), head=dict(in_channels=192))
paper = dict(top1=78.8, source='X-ViT paper, Table 1, X-ViT-T (not measured here)')

_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_400e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(backbone=dict(arch='base', drop_path_rate=0.15), head=dict(in_channels=512))
paper = dict(top1=83.3, source='X-ViT paper, Table 1, X-ViT-B (not measured here)')

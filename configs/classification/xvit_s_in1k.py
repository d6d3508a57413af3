_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_400e.py',
    '../_base_/runtime/mmpretrain.py',
]

paper = dict(top1=82.0, source='X-ViT paper, Table 1, X-ViT-S (not measured here)')

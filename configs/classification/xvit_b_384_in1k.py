_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/imagenet_finetune_40e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(backbone=dict(arch='base', drop_path_rate=0.15), head=dict(in_channels=512))
load_from = 'work_dirs/xvit_b_in1k/epoch_400.pth'  # trained at 224 with xvit_b_in1k.py
paper = dict(top1=84.3, source='X-ViT paper, Table 1, X-ViT-B at 384 (not measured here)')

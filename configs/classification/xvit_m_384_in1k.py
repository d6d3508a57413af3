_base_ = [
    '../_base_/models/xvit_classifier.py',
    '../_base_/datasets/imagenet_384.py',
    '../_base_/schedules/imagenet_finetune_40e.py',
    '../_base_/runtime/mmpretrain.py',
]

model = dict(backbone=dict(arch='medium', drop_path_rate=0.1), head=dict(in_channels=384))
load_from = 'work_dirs/xvit_m_in1k/epoch_400.pth'  # trained at 224 with xvit_m_in1k.py
paper = dict(top1=83.8, source='X-ViT paper, Table 1, X-ViT-M at 384 (not measured here)')

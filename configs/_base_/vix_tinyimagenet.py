_base_ = ['models/vix_classifier.py', 'datasets/tinyimagenet.py', 'schedules/vix_paper.py']

custom_imports = dict(imports=['xvit_det', 'xvit_det.datasets.tiny_imagenet'], allow_failed_imports=False)
model = dict(backbone=dict(img_size=64, patch_size=2), head=dict(num_classes=200))

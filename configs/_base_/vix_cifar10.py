_base_ = ['models/vix_classifier.py', 'datasets/cifar10.py', 'schedules/vix_paper.py']

model = dict(backbone=dict(img_size=32, patch_size=1), head=dict(num_classes=10))

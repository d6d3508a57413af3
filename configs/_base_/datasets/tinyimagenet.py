# Tiny ImageNet as in the "Vision Xformers" code: no augmentation, no resizing. data_root is the folder that holds
# tiny-imagenet-200/, as its archive unpacks.
data_preprocessor = dict(
    num_classes=200,
    mean=[122.4786, 114.2755, 101.3963],  # RGB
    std=[70.4924, 68.5679, 71.8127],
    to_rgb=True,
)

train_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]  # grey images are read as colour
test_pipeline = [train_pipeline[0], dict(type='Resize', scale=64), train_pipeline[1]]  # for other images, in inference

tinyimagenet = dict(type='TinyImageNet', data_root='data/tinyimagenet')
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline, **tinyimagenet),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='val', pipeline=test_pipeline, **tinyimagenet),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

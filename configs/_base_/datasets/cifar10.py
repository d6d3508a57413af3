# CIFAR-10 as in the "Vision Xformers" code: no augmentation, values from -1 to 1. Nothing is downloaded: data_root is
# the folder that holds cifar-10-batches-py/.
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False)  # the files are RGB

train_pipeline = [dict(type='PackInputs')]
test_pipeline = [dict(type='Resize', scale=32), *train_pipeline]  # for other images, in inference

cifar10 = dict(type='CIFAR10', data_root='data/cifar10', download=False)
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(split='train', pipeline=train_pipeline, **cifar10),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=test_pipeline, **cifar10),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

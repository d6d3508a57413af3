# mmpretrain's Swin data set is DeiT's recipe: RandAugment m9 std 0.5, random erasing 0.25, test crop 224 of 256.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

# repeated augmentation: three views of an image, each on another GPU
train_dataloader = dict(sampler=dict(type='RepeatAugSampler', shuffle=True))

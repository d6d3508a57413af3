# mmpretrain's settings for Swin are DeiT's recipe: RandAugment m9 std 0.5, random erasing 0.25, test crop 224 of 256.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

# repeated augmentation: three views of each image, on different GPUs
train_dataloader = dict(sampler=dict(type='RepeatAugSampler', shuffle=True))

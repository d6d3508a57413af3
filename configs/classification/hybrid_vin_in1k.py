# The ImageNet model of the "Vision Xformers" code (2023): 4 heads of 64 channels, although it asks for 12, and a single
# 16x16 convolution as its stem. The recipe is that of vin_s_in1k.py, without the code's dropout of 0.5.
_base_ = 'vin_s_in1k.py'

model = dict(
    backbone=dict(arch='base_4_heads', stem='patch_norm', mixer=dict(landmarks=32)),
    head=dict(in_channels=768),
)

# The ImageNet model of the "Vision Xformers" code (2023), which has 4 heads of 64 channels although 12 are asked for,
# and one convolution 16x16 for its stem. The recipe is vin_s_in1k.py's; the code's dropout of 0.5 is left out.
_base_ = 'vin_s_in1k.py'

model = dict(
    backbone=dict(arch='base_4_heads', stem='patch_norm', mixer=dict(landmarks=32)),
    head=dict(in_channels=768),
)

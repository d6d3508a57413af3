# Fine-tunes ImageNet weights, with smaller learning rates for earlier blocks. 0.7 is the rate of ViTDet's ViT-B, which
# also has 12 blocks (arXiv 2203.16527); not tuned here.
_base_ = 'mask_rcnn_xvit_s_3x.py'

load_from = 'work_dirs/xvit_s_in1k/epoch_400.pth'  # the classifier trained by xvit_s_in1k.py
optim_wrapper = dict(constructor='LayerDecayOptimWrapperConstructor', paramwise_cfg=dict(layer_decay_rate=0.7))
paper = None  # the paper names no layer decay

"""Mask R-CNN with a small X-ViT on Shapes in context: what `make demo` trains, in minutes on two CPU cores.

Naming a shape needs attention here, see `xvit_det/datasets/shapes/context.py`.
"""

_base_ = 'mask_rcnn_xvit_shapes.py'

# One map, of the last block: every shape is named after all four attentions.
model = dict(
    backbone=dict(out_strides=8, out_indices=-1),
    neck=dict(in_channels=[128], num_outs=1),
    rpn_head=dict(anchor_generator=dict(scales=[3, 5, 8], strides=[8])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[8]),
        bbox_head=dict(num_classes=4),
        mask_roi_extractor=dict(featmap_strides=[8]),
        mask_head=dict(num_classes=4),
    ),
)
data_root = 'data/shapes_in_context/'
train_dataloader = dict(batch_size=4, dataset=dict(type='ContextShapesDataset', data_root=data_root))
val_dataloader = dict(dataset=dict(type='ContextShapesDataset', data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
# The rate at which the body learns such scenes by itself, see benchmarks/mixer_tasks.py; the heads' was not tried.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.3)}))

"""Mask R-CNN with a small X-ViT on Shapes in context, where naming a shape needs attention.

`xvit-det demo --task context` trains it.
"""

_base_ = 'mask_rcnn_xvit_shapes.py'

model = dict(roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2)))
data_root = 'data/shapes_in_context/'
train_dataloader = dict(dataset=dict(type='ContextShapesDataset', data_root=data_root))
val_dataloader = dict(dataset=dict(type='ContextShapesDataset', data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# Your own data in COCO format: change the four lines below. Nothing else depends on the number of classes.
_base_ = 'mask_rcnn_xvit_s_1x.py'

data_root = 'data/mine/'
classes = ('cat', 'dog')  # spelt and ordered as the files' `categories`; a single one keeps its comma: ('cat',)
train_file, train_images = 'train.json', 'train/'
val_file, val_images = 'val.json', 'val/'
# A detector trained on COCO to start from; layers whose shape depends on the number of classes start from scratch.
load_from = None

num_classes = len(classes)
model = dict(roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)))

metainfo = dict(classes=classes)
train_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file=train_file, data_prefix=dict(img=train_images))
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, metainfo=metainfo, ann_file=val_file, data_prefix=dict(img=val_images))
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator

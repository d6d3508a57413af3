# Your own label maps: change the five lines below. Nothing else depends on the number of classes.
_base_ = 'semantic_fpn_xvit_s_ade20k_80k.py'

data_root = 'data/mine/'
classes = ('background', 'road', 'car')  # by the values of the label maps: 0, 1, 2; pixels of 255 are ignored
train_images, train_labels = 'images/train', 'labels/train'
val_images, val_labels = 'images/val', 'labels/val'
image_ending, label_ending = '.jpg', '.png'  # images/train/a.jpg goes with labels/train/a.png
# A segmentor trained on ADE20K to start from; layers whose shape depends on the number of classes start from scratch.
load_from = None

model = dict(decode_head=dict(num_classes=len(classes)))

common = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    img_suffix=image_ending,
    seg_map_suffix=label_ending,
)
train_dataloader = dict(dataset=dict(data_prefix=dict(img_path=train_images, seg_map_path=train_labels), **common))
val_dataloader = dict(dataset=dict(data_prefix=dict(img_path=val_images, seg_map_path=val_labels), **common))
test_dataloader = val_dataloader

# The recipe of mask_rcnn_xvit_s_3x counted in iterations of 16 images: 8 GPUs of 2. Not in the paper.
_base_ = [
    '_base_/models/mask_rcnn_xvit.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_270k.py',
    '_base_/runtime/mmdet.py',
]

# Images in any order, not grouped by orientation: with OneDL's packages a resumed training finds its place without
# loading those before it.
train_dataloader = dict(batch_sampler=None, sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=3),
)
log_processor = dict(by_epoch=False)

# The recipe of the "Vision Xformers" code: AdamW at a constant rate, without warm-up. It reports the best epoch on the
# test images, so the best checkpoint is kept. Configs set epochs and batch size where the code does; it names no batch
# size for CCL and CvL, which take that of the other CCX and CvX, nor for PiX, which takes ViT's.
_base_ = '../runtime/mmpretrain.py'

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

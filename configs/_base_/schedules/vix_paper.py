# How the "Vision Xformers" code trains: AdamW at one rate, no warm-up, no schedule. Its score is that of the best
# epoch, measured on the test pictures; the best checkpoint is kept for that. Configs change the number of epochs and
# the batch size where the code does. It names no batch size for CCL and CvL, which take that of the other CCX and CvX,
# nor for PiX, which takes ViT's.
_base_ = '../runtime/mmpretrain.py'

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01))
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

# All models of the "Vision Xformers" tables, with PyTorch's default initialisation. The dataset's vix_*.py sets the
# image size and the number of classes, each config its mixer.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ViX', arch='paper', out_type='cls_token'),
    neck=None,
    head=dict(type='LinearClsHead', in_channels=128, loss=dict(type='CrossEntropyLoss'), init_cfg=None),
)

# XCiT's authors test on the whole shorter side, scaled to 224, not on the central 224 of 256 pixels.
_base_ = 'imagenet_224.py'

test_pipeline = _base_.test_pipeline
test_pipeline[1]['scale'] = 224  # ResizeEdge

val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

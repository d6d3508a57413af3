# DenseCL (arXiv 2011.09157): MoCo v2, and the same loss for every token and its most similar one in the other view.
_base_ = 'xvit_mocov2.py'

model = dict(
    type='DenseCL',
    loss_lambda=0.5,
    # A quarter of the paper's: 14x14 tokens, instead of a ResNet's 7x7, are each compared with the whole queue.
    queue_len=16384,
    neck=dict(_delete_=True, type='DenseCLNeck', in_channels=384, hid_channels=2048, out_channels=128),
)

"""A warm-up longer than the training is shortened, and said."""

from xvit_det.engine.warmup import shorten_warmups


def test_only_what_is_too_long():
    schedulers = [
        dict(type='LinearLR', by_epoch=False, begin=0, end=500),
        dict(type='PolyLR', by_epoch=False, begin=500, end=80000),
        dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11]),
    ]
    assert not shorten_warmups(schedulers, 500)
    assert shorten_warmups(schedulers, 72) == [
        'The warm-up of 500 iterations is longer than the training of 72: shortened to 7.'
    ]
    assert [(s['begin'], s['end']) for s in schedulers] == [(0, 7), (7, 80000), (0, 12)]
    assert not shorten_warmups(None, 3)
    by_epoch = dict(type='LinearLR', by_epoch=True, begin=0, end=40)
    assert not shorten_warmups(by_epoch, 3)

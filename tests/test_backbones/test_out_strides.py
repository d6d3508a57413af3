"""Which maps a pyramid has, and what is said where blocks are left out."""

import pytest
import torch

from xvit_det import CvX, InputError, PiX, ViX, XViT
from xvit_det.backbones import base

TINY = dict(embed_dims=32, depth=12, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)


@pytest.fixture
def logged(monkeypatch) -> list[str]:
    lines = []
    monkeypatch.setattr(base, 'print_log', lambda text, **_: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ('strides', 'taps'),
    [((4, 8, 16, 32), (3, 5, 7, 11)), ((8, 16, 32), (5, 7, 11)), ((16, 32), (7, 11)), (32, (11,)), ((8, 32), (5, 11))],
)
def test_each_stride_comes_from_its_usual_block(strides, taps, logged):
    torch.manual_seed(0)
    backbone = XViT(arch=TINY, out_strides=strides).eval()
    assert backbone.out_indices == taps
    assert backbone.out_strides == ((strides,) if isinstance(strides, int) else strides)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        maps = backbone(image)
    assert [96 // m.shape[2] for m in maps] == list(backbone.out_strides) and len(maps) == len(backbone.out_channels)
    assert logged == []


def test_a_single_map_is_the_last_of_all_four():
    whole = XViT(arch=TINY).eval()
    single = XViT(arch=TINY, out_strides=32).eval()
    single.load_state_dict(whole.state_dict(), strict=False)  # its only level, a max-pooling, has no weights
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(single(image)[0], whole(image)[-1])
    assert not list(single.pyramid.parameters())


@pytest.mark.parametrize('family', [ViX, PiX, CvX])
def test_every_family_has_it(family):
    backbone = family(mixer='performer', out_strides=(8, 32)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 128, 128))
    assert [128 // m.shape[2] for m in maps] == [8, 32] == list(backbone.out_strides)


def test_both_together_place_the_maps():
    backbone = XViT(arch=TINY, out_indices=(2, 11), out_strides=(8, 16))
    assert (backbone.out_indices, backbone.out_strides) == ((2, 11), (8, 16))


@pytest.mark.parametrize('options', [dict(out_indices=(0, 1, 2, 3)), dict(out_strides=(4, 8))])
def test_blocks_that_are_left_out_are_named(options, logged):
    backbone = XViT(arch=TINY, **options)
    built = len(backbone.blocks)
    (line,) = logged
    assert f'block {built} of 12' in line and f'{12 - built} blocks are not built' in line


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(out_strides=(8, 16), out_type='featmap'), 'needs out_type pyramid, not featmap'),
        (dict(out_strides=(8, 64)), r'not one or more of \(4, 8, 16, 32\) in ascending order'),
        (dict(out_strides=(16, 8)), 'in ascending order'),
        (dict(out_strides=()), 'not one or more'),
        (dict(out_strides=(8, 16), out_indices=(5, 7, 11)), 'not of the same length'),
        (dict(out_indices=(5, 7)), r'out_strides selects any of the strides \(4, 8, 16, 32\)'),
    ],
)
def test_wrong_combinations(options, message):
    with pytest.raises(InputError, match=message):
        XViT(arch=TINY, **options)

"""Weights of ViX classifiers in detectors: what belongs to the tokens of 224 x 224 images is fitted to others."""

import logging

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from xvit_det import CCX, InputError, PiX, ViX
from xvit_det.backbones import load_pretrained, pretrained

ARCH = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), head_dims=8, hidden_dims=(32,), pyramid_indices=(0, 1, 2, 3))
VIX = dict(arch=dict(ARCH, init_std=0.5), mixer=dict(type='linformer', projected=4), patch_size=16)
TABLE, PROJECTION = 'entries.0.pos_embed.table', 'blocks.2.mixer.projection'


@pytest.fixture
def log(monkeypatch):
    """What is logged: a list of (level, message)."""
    lines = []
    monkeypatch.setattr(pretrained, 'print_log', lambda text, logger, level=logging.INFO: lines.append((level, text)))
    return lines


@pytest.fixture
def classifier(tmp_path):
    """A classifier's checkpoint as MMEngine writes it: (weights of the backbone, file)."""
    torch.manual_seed(0)
    return save(ViX(**VIX, out_type='cls_token'), tmp_path / 'classifier.pth')


def save(model, path):
    weights = model.state_dict()
    state = {f'backbone.{k}': v for k, v in weights.items()}
    torch.save(dict(state_dict=dict(state, **{'head.fc.weight': torch.zeros(10, 16)})), path)
    return weights, path


def resample(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """A table (196, C) of a 14 x 14 grid, for another grid: (h·w, C)."""
    maps = rows.reshape(14, 14, -1).permute(2, 0, 1)[None]
    return interpolate(maps, size=size, mode='bicubic', align_corners=False)[0].permute(1, 2, 0).flatten(0, 1)


@pytest.mark.parametrize(
    'img_size, grid', [(224, (14, 14)), (320, (20, 20)), (96, (6, 6)), ((160, 250), (10, 16)), ((448, 112), (28, 7))]
)
def test_tables_are_fitted_to_the_detectors_grid(classifier, log, img_size, grid):
    weights, path = classifier
    model = ViX(**VIX, img_size=img_size, init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))
    model.init_weights()
    own = model.state_dict()
    if grid == (28, 7):
        # As many tokens as 14 x 14: nothing in a checkpoint tells the two grids apart, and it is taken for its own.
        expected = {TABLE: weights[TABLE][0, 1:], PROJECTION: weights[PROJECTION][1:]}
    else:
        scale = 14 * 14 / (grid[0] * grid[1])  # sums over all tokens keep their size
        expected = {
            TABLE: resample(weights[TABLE][0, 1:], grid),
            PROJECTION: scale * resample(weights[PROJECTION][1:], grid),
        }
    torch.testing.assert_close(own[TABLE], expected[TABLE][None])
    torch.testing.assert_close(own[PROJECTION], expected[PROJECTION])
    others = [k for k in own if k in weights and k != TABLE and not k.endswith('.projection')]
    assert len(others) > 30 and all(torch.equal(own[k], weights[k]) for k in others)

    missing = [k for k in own if k.startswith('pyramid.')]
    (_, counts), (_, expectedly), (_, unexpected), (_, fitted) = log
    assert {level for level, _ in log} == {logging.INFO}
    assert f'{len(own) - len(missing)} matched, {len(missing)} missing, 3 unexpected' in counts
    assert f'{len(missing)} of the missing weights belong to pyramid' in expectedly and 'as expected' in expectedly
    assert unexpected.endswith('not used: entries.0.cls_token, norms.0.weight, norms.0.bias')
    tokens = grid[0] * grid[1]
    assert f'resampled to the grid of img_size, rows of unused tokens dropped: {TABLE} ' in fitted
    assert f'{TABLE} (1, 197, 16) to (1, {tokens}, 16)' in fitted
    assert all(f'blocks.{i}.mixer.projection (197, 4) to ({tokens}, 4)' in fitted for i in range(4))


def test_resampled_when_loaded_or_when_run_is_the_same(classifier):
    _, path = classifier
    x = torch.randn(1, 3, 160, 250)
    outs = []
    for img_size in (224, (160, 250)):
        model = ViX(**VIX, img_size=img_size, out_type='featmap', out_indices=(0, 3)).eval()
        load_pretrained(model, path)
        outs.append(model(x))
    for a, b in zip(*outs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap'])
def test_a_larger_classifier_keeps_its_class_token(classifier, out_type):
    weights, path = classifier
    larger = ViX(**VIX, out_type=out_type, img_size=320)
    report = load_pretrained(larger, path)
    assert not report['missing']
    table = larger.state_dict()[TABLE][0]
    if out_type == 'cls_token':
        assert torch.equal(table[0], weights[TABLE][0, 0]) and not report['unexpected']
        torch.testing.assert_close(table[1:], resample(weights[TABLE][0, 1:], (20, 20)))
        assert torch.equal(larger.state_dict()[PROJECTION][0], weights[PROJECTION][0])
    else:
        assert len(table) == 400


def test_a_head_beside_bare_weights_is_reported(tmp_path):
    state = ViX(**VIX, out_type='cls_token').state_dict()
    torch.save(dict(state, **{'head.weight': torch.zeros(10, 16)}), tmp_path / 'bare.pth')
    report = load_pretrained(ViX(**VIX, out_type='featmap'), tmp_path / 'bare.pth')
    assert report['unexpected'] == ['entries.0.cls_token', 'norms.0.weight', 'norms.0.bias', 'head.weight']
    assert not report['missing']


def test_pooling_layers_and_sequence_pooling_are_reported(tmp_path, log):
    pix = dict(
        arch=dict(
            embed_dims=(16, 32),
            depths=(2, 2),
            num_heads=(2, 2),
            head_dims=8,
            hidden_dims=(32, 32),
            pyramid_indices=(0, 1, 2, 3),
            init_std=0.5,
        ),
        mixer='performer',
        patch_size=16,
    )
    weights, path = save(PiX(**pix, out_type='cls_token'), tmp_path / 'pix.pth')
    detector = PiX(**pix, img_size=320)
    report = load_pretrained(detector, path)
    assert [k for k in report['unexpected'] if not k.startswith('norms.')] == [
        'entries.0.cls_token',
        'entries.1.cls_proj.weight',
        'entries.1.cls_proj.bias',
    ]
    features = 'blocks.3.mixer.features'
    assert torch.equal(detector.state_dict()[features], weights[features]), 'random features belong to the weights'
    ccx = dict(
        arch=dict(ARCH, tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2), mixer='performer', patch_size=16
    )
    _, path = save(CCX(**ccx, out_type='cls_token'), tmp_path / 'ccx.pth')
    assert load_pretrained(CCX(**ccx, img_size=320), path)['unexpected'] == [
        'norms.0.weight',
        'norms.0.bias',
        'pooling.score.weight',
        'pooling.score.bias',
    ]
    assert {level for level, _ in log} == {logging.INFO}


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(mixer=dict(type='linformer', projected=8)), r'mixer\.projection has shape \(197, 4\), .* \(196, 8\)'),
        (dict(arch=dict(ARCH, init_std=0.5, embed_dims=(32,))), r'proj\.weight has shape \(16, 768\), .* \(32, 768\)'),
        (dict(patch_size=8, out_type='featmap'), r'proj\.weight has shape \(16, 768\), the model needs \(16, 192\)'),
    ],
)
def test_what_cannot_be_fitted_is_an_error_that_changes_nothing(classifier, change, message):
    _, path = classifier
    model = ViX(**dict(VIX, **change))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError, match=f'of another architecture or image size than this ViX: .*{message}'):
        load_pretrained(model, path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_weights_of_a_non_square_grid_are_not_guessed(tmp_path):
    _, path = save(ViX(**VIX, img_size=(224, 320), out_type='cls_token'), tmp_path / 'wide.pth')
    with pytest.raises(InputError, match=r'pos_embed\.table has shape \(1, 281, 16\), the model needs \(1, 196, 16\)'):
        load_pretrained(ViX(**VIX), path)
    load_pretrained(ViX(**VIX, img_size=(224, 320)), path)


def test_weights_without_a_class_token_do_not_make_one(tmp_path):
    _, path = save(ViX(**VIX, out_type='featmap', out_indices=3), tmp_path / 'detector.pth')
    with pytest.raises(InputError, match=r'has shape \(1, 196, 16\), the model needs \(1, 197, 16\)'):
        load_pretrained(ViX(**VIX, out_type='cls_token'), path)


def test_an_mlp_mixer_of_another_size_is_refused(tmp_path):
    mlp = dict(VIX, mixer='mlp', position='none')
    _, path = save(ViX(**mlp, out_type='avg_featmap', img_size=64), tmp_path / 'mixer.pth')
    load_pretrained(ViX(**mlp, img_size=64), path)
    with pytest.raises(
        InputError, match=r'mixer\.mlp\.0\.weight has shape \(16, 16, 1\), the model needs \(25, 25, 1\)'
    ):
        load_pretrained(ViX(**mlp, img_size=80), path)

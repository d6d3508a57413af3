"""What every backbone keeps, run over the registry: a new backbone joins by adding its small variant to ``SMALL``."""

import copy
import inspect
import math
import re
import warnings
from dataclasses import dataclass, field

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

import xvit_det
from xvit_det.backbones import Backbone
from xvit_det.errors import InputError

_XVIT = dict(embed_dims=32, depth=5, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
_ONE_STAGE = dict(embed_dims=(16,), depths=(5,), num_heads=(2,), hidden_dims=(32,), head_dims=8)
_TWO_STAGES = dict(embed_dims=(16, 32), depths=(2, 3), num_heads=(2, 4), hidden_dims=(32, 64), head_dims=8)
_ALL = dict(pyramid_indices=(0, 1, 2, 4))
_TOKENIZER = dict(tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2)

# Variants of five blocks, each family with another mixer.
SMALL = {
    'XViT': dict(type='XViT', arch=_XVIT),
    'ViX': dict(type='ViX', arch=dict(_ONE_STAGE, **_ALL, init_std=0.5), mixer=dict(type='nystrom', landmarks=4)),
    'LeViX': dict(type='LeViX', arch=dict(_TWO_STAGES, **_ALL, pre_norm=True), mixer='fourier'),
    'CCX': dict(type='CCX', arch=dict(_ONE_STAGE, **_ALL, **_TOKENIZER), mixer=dict(type='linformer', projected=8)),
    'CvX': dict(
        type='CvX', arch=dict(_TWO_STAGES, **_ALL, kernels=(7, 3), later_stride=2), mixer='softmax', patch_size=8
    ),
    'PiX': dict(type='PiX', arch=dict(_TWO_STAGES, **_ALL, init_std=0.5), mixer='performer', patch_size=16),
}
OUT_TYPES = ('pyramid', 'featmap', 'cls_token', 'avg_featmap')
SIZES = [(224, 224), (64, 64), (65, 97), (112, 137), (511, 33)]


@dataclass
class Facts:
    """Where the small variants differ: names of the stem's weights, strides of the blocks' maps, ..."""

    stem: tuple[str, ...] = ('entries.0.',)
    strides: tuple[int, ...] = (16,) * 5
    smallest: tuple[int, int] = (16, 16)  # of images it takes
    archs: str = 'paper'  # the first name in its list
    no_effect: tuple[str, ...] = ()  # endings of weights that change nothing, by construction
    entries: dict[str, int] = field(default_factory=dict)  # layer depths of what stands between stages


FACTS = {
    'XViT': Facts(stem=('stem.', 'pos_embed.'), smallest=(1, 1), archs='tiny, small, medium, base'),
    'ViX': Facts(smallest=(32, 32)),  # as many tokens as landmarks
    'LeViX': Facts(strides=(16, 16, 32, 32, 32), entries={'entries.1.': 3}),
    'CCX': Facts(no_effect=('pooling.score.bias',)),  # the softmax behind it does not feel it
    'CvX': Facts(strides=(8, 8, 16, 16, 16), smallest=(8, 8), entries={'entries.1.': 3}),
    'PiX': Facts(strides=(16, 16, 32, 32, 32), entries={'entries.1.': 3}),
}

every_backbone = pytest.mark.parametrize('name', SMALL)
every_out_type = pytest.mark.parametrize('out_type', OUT_TYPES)


def build(name: str, seed: int = 0, **options) -> Backbone:
    torch.manual_seed(seed)
    return MODELS.build(dict(SMALL[name], **options))


def loss_of(outs):
    return sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outs)


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


WRONG = {
    'arch': [3, None, 'unknown', {}],
    'drop_path_rate': [1, 2, -0.1, math.nan, 'x', None],
    'frozen_stages': [-2, 99, 'x'],
    'img_size': [0, -1, (0, 3), (1, 2, 3), 224.5, 'x'],
    'in_channels': [0, -1, 1.5, '3', None],
    'init_cfg': [3, 'x', [3]],
    'mask_padding': ['x'],
    'layer_scale': ['x'],
    'gamma': ['x'],
    'mixer': [3, None, {}, 'unknown', dict(type='performer', unknown=1)],
    'norm_cfg': [dict(type='BNN'), dict(type='BN', unknown=1), dict(type='GN'), {}, 'BN', 0],
    'norm_eval': ['x'],
    'out_indices': [99, [], [1, 0], 1.5, 'x'],
    'out_strides': [5, [], [32, 4], 'x'],
    'out_type': ['x', None],
    'patch_size': [0, -16, 16.0, 'x'],
    'position': ['x'],
    'with_cp': ['x'],
}


@every_backbone
@pytest.mark.parametrize('argument', WRONG)
def test_wrong_arguments(name, argument):
    """Also of a variant that has no use for them, such as a norm."""
    if argument not in inspect.signature(MODELS.get(name)).parameters:
        pytest.skip(f'{name} has no {argument}')
    for value in WRONG[argument]:
        for out_type in ('pyramid', 'cls_token'):
            with pytest.raises(InputError) as error:
                MODELS.build({**SMALL[name], 'out_type': out_type, argument: value})
            assert '\n' not in str(error.value)


def test_every_registered_backbone_is_tested():
    ours = {k for k, v in MODELS.module_dict.items() if isinstance(v, type) and issubclass(v, Backbone)}
    assert ours == set(SMALL)
    assert ours <= set(xvit_det.__all__)


@every_backbone
def test_every_argument_is_listed_and_documented(name):
    cls = MODELS.get(name)
    parameters = inspect.signature(cls).parameters
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters.values())
    described = ', '.join(re.findall(r'^    ((?:\w+, )*\w+): ', inspect.getdoc(cls), re.M)).split(', ')
    assert set(described) - {'InputError'} == set(parameters)


@every_backbone
@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_builds_in_any_scope(name, scope):
    registry = pytest.importorskip(f'{scope}.registry', reason=f'{scope} is not installed').MODELS
    assert isinstance(registry.build(SMALL[name]), Backbone)


@every_backbone
@pytest.mark.parametrize('height, width', SIZES)
def test_maps_have_their_strides_and_channels(name, height, width):
    check_maps(name, height, width)


@every_backbone
def test_the_smallest_image(name):
    height, width = FACTS[name].smallest
    check_maps(name, height, width)
    if height > 1:
        with pytest.raises(InputError, match='is smaller than a patch|more than the 2 tokens'):
            build(name)(torch.zeros(1, 3, height // 2, width))


def check_maps(name, height, width):
    model = build(name).eval()
    assert model.out_strides == (4, 8, 16, 32)
    with torch.no_grad():
        outs = model(torch.randn(2, 3, height, width))
    assert isinstance(outs, tuple) and len(outs) == 4
    for index, out, channels, stride in zip(
        model.out_indices, outs, model.out_channels, model.out_strides, strict=True
    ):
        block_stride = FACTS[name].strides[index]
        expected = [math.ceil(math.ceil(side / block_stride) * block_stride / stride) for side in (height, width)]
        assert out.shape == (2, channels, *expected)
        assert out.isfinite().all()


@every_backbone
def test_a_pyramid_may_start_at_stride_8(name):
    model = build(name, out_indices=(0, 2, 4)).train()
    assert model.out_strides == (8, 16, 32) and len(model.out_channels) == 3
    outs = model(torch.randn(2, 3, 64, 96))
    assert [tuple(out.shape[-2:]) for out in outs] == [(8, 12), (4, 6), (2, 3)]
    loss_of(outs).backward()
    assert all(p.grad is not None for p in model.parameters())


@every_backbone
@every_out_type
def test_outputs_are_tuples_of_what_was_asked(name, out_type):
    model = build(name, out_type=out_type)
    outs = model(torch.randn(2, 3, 48, 80))
    assert isinstance(outs, tuple)
    if out_type in ('cls_token', 'avg_featmap'):
        assert [out.shape for out in outs] == [(2, c) for c in model.out_channels]
    elif out_type == 'featmap':
        assert model.out_strides == FACTS[name].strides[-1:]
        (stride,) = model.out_strides
        assert [out.shape for out in outs] == [(2, *model.out_channels, math.ceil(48 / stride), math.ceil(80 / stride))]


@every_backbone
def test_out_indices(name):
    x = torch.randn(1, 3, 64, 64)
    whole = build(name, out_type='featmap', out_indices=(0, 2, 4)).eval()
    negative = build(name, out_type='featmap', out_indices=(-5, -3, -1)).eval()
    negative.load_state_dict(whole.state_dict())
    for a, b in zip(whole(x), negative(x), strict=True):
        assert torch.equal(a, b)
    cut = build(name, out_type='featmap', out_indices=2).eval()
    cut.load_state_dict(whole.state_dict(), strict=False)
    assert torch.equal(cut(x)[0], whole(x)[1])
    assert not any(key.startswith('blocks.3') for key in cut.state_dict()), 'blocks that nothing reads do not exist'


@every_backbone
@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch=dict(embed_dims=32)), r'custom arch needs exactly the keys .*missing \[.*depth'),
        (dict(out_type='raw'), r"out_type 'raw' is not one of pyramid, featmap, cls_token, avg_featmap"),
        (dict(out_type='featmap', out_indices=5), r'out_indices=5 has a value that is not an integer in \[-5, 4\]'),
        (dict(out_type='featmap', out_indices='abc'), r'out_indices=abc has a value'),
        (dict(out_type='featmap', out_indices=(3, 1)), r'ascending order'),
        (dict(out_type='featmap', out_indices=()), r'one or more blocks'),
        (dict(out_indices=(0, 1)), r'pyramid needs four out_indices, or three'),
        (dict(out_type='cls_token', out_indices=0), r'cls_token reads the last block only'),
        (dict(frozen_stages=6), r'frozen_stages=6 is not in \[-1, 5\]'),
        (dict(drop_path_rate=1.0), r'drop_path_rate=1\.0'),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(name, options, message):
    with pytest.raises(InputError, match=message):
        build(name, **options)


@every_backbone
def test_unknown_archs_are_refused_with_the_known_ones(name):
    with pytest.raises(InputError, match=f"arch 'huge' is not one of {FACTS[name].archs}"):
        build(name, arch='huge')
    with pytest.raises(InputError, match=r"custom arch needs exactly the keys .*missing \[\], unknown \['width'\]"):
        build(name, arch=dict(SMALL[name]['arch'], width=1))


@every_backbone
@pytest.mark.parametrize('shape', [(3, 32, 32), (1, 4, 32, 32)])
def test_wrong_input_is_refused(name, shape):
    with pytest.raises(InputError, match=r'is not \(batch, 3, height, width\)'):
        build(name)(torch.zeros(shape))


@every_backbone
@every_out_type
def test_every_parameter_gets_a_gradient(name, out_type):
    model = build(name, out_type=out_type)
    model.train()
    loss_of(model(torch.randn(2, 3, 64, 96))).backward()
    for key, gradient in gradients(model).items():
        assert gradient is not None, f'{key} would be "unused" to DistributedDataParallel'
        assert gradient.isfinite().all(), key
    # One bias of a convolution before a batch norm may be zero; whole modules without an effect may not.
    dead = [k for k, g in gradients(model).items() if g.abs().max() == 0]
    assert all(k.endswith(FACTS[name].no_effect) for k in dead), dead


@every_backbone
@every_out_type
def test_images_do_not_see_each_other(name, out_type):
    model = build(name, out_type=out_type).eval()
    x = torch.randn(3, 3, 64, 80)
    with torch.no_grad():
        for together, *alone in zip(model(x), *(model(image[None]) for image in x), strict=True):
            scale = max(1.0, together.abs().max().item())
            torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5 * scale)


@every_backbone
def test_same_input_same_output(name):
    model = build(name).eval()
    x = torch.randn(1, 3, 64, 80)
    assert all(torch.equal(a, b) for a, b in zip(model(x), model(x), strict=True))


@every_backbone
@every_out_type
@pytest.mark.parametrize(
    'options', [{}, dict(frozen_stages=1), dict(norm_eval=True), dict(norm_cfg=dict(type='SyncBN'))]
)
def test_checkpointing_changes_neither_outputs_nor_gradients_nor_statistics(name, out_type, options):
    plain = build(name, out_type=out_type, drop_path_rate=0.3, **options).train()
    saving = build(name, out_type=out_type, drop_path_rate=0.3, with_cp=True, **options).train()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 48, 64)
    results = []
    for model in (plain, saving):
        torch.manual_seed(3)
        outs = model(x)
        loss_of(outs).backward()
        results.append((outs, gradients(model), dict(model.named_buffers())))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(results[0][1:], results[1][1:], strict=True):
        for key in a:
            torch.testing.assert_close(a[key], b[key], msg=key)


@every_backbone
@pytest.mark.parametrize('frozen', [-1, 0, 2])
def test_frozen_stages(name, frozen):
    model = build(name, frozen_stages=frozen)
    assert model.train() is model and model.eval() is model, "torch's contract: train() returns the module"
    model.train()
    for number, modules in enumerate(model.layer_groups):
        for module in modules:
            assert all(p.requires_grad == (number > frozen) for p in module.parameters())
            assert all(m.training == (number > frozen) for m in module.modules())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    loss_of(model(torch.randn(2, 3, 64, 64))).backward()
    torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1).step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    for number in range(len(model.layer_groups)):
        prefixes = FACTS[name].stem if number == 0 else (f'blocks.{number - 1}.',)
        assert any(k.startswith(prefixes) for k in changed) == (number > frozen), prefixes


@every_backbone
def test_norm_eval(name):
    model = build(name, norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert norms and not any(m.training for m in norms)
    assert model.training
    assert all(m.training for m in build(name).train().modules() if isinstance(m, _BatchNorm))


@every_backbone
def test_group_norm_and_sync_norm(name):
    grouped = build(name, norm_cfg=dict(type='GN', num_groups=2)).train()
    assert not any(isinstance(m, _BatchNorm) for m in grouped.modules())
    loss_of(grouped(torch.randn(1, 3, 64, 64))).backward()
    synced = build(name, norm_cfg=dict(type='SyncBN')).eval()
    assert len(synced(torch.randn(1, 3, 64, 64))) == 4


@every_backbone
def test_conversion_to_sync_norm_and_back(name):
    """PyTorch's and MMEngine's: the same weights under the same names, the same outputs, and fusing works on."""
    model = build(name).train()
    x = torch.randn(2, 3, 64, 64)
    model(x)  # running statistics
    model.eval()
    weights = model.state_dict()
    with torch.no_grad():
        expected = model(x)
        for convert in (torch.nn.SyncBatchNorm.convert_sync_batchnorm, revert_sync_batchnorm):
            model = convert(model)
            assert model.state_dict().keys() == weights.keys()
            assert all(torch.equal(a, b) for a, b in zip(model(x), expected, strict=True))
            for a, b in zip(copy.deepcopy(model).fuse()(x), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
            with torch.enable_grad():
                loss_of(copy.deepcopy(model).train()(x)).backward()
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())


@every_backbone
def test_deterministic_algorithms_suffice(name):
    results = []
    try:
        torch.use_deterministic_algorithms(True)  # an operation without one raises an error
        for _ in range(2):
            model = build(name).train()
            loss_of(model(torch.randn(2, 3, 64, 97))).backward()
            results.append(gradients(model))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(gradient, results[1][key]) for key, gradient in results[0].items())


@every_backbone
def test_layer_depth(name):
    model = build(name)
    depths = {n: model.get_layer_depth(f'backbone.{n}', 'backbone.') for n, _ in model.named_parameters()}
    assert {total for _, total in depths.values()} == {model.num_blocks + 2}
    for key, (depth, _) in depths.items():
        between = [d for prefix, d in FACTS[name].entries.items() if key.startswith(prefix)]
        if key.startswith(FACTS[name].stem):
            assert depth == 0
        elif between:
            assert [depth] == between
        elif key.startswith('blocks.'):
            assert depth == int(key.split('.')[1]) + 1
        else:
            assert depth == model.num_blocks + 1
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (model.num_blocks + 1, model.num_blocks + 2)


@every_backbone
def test_no_weight_decay_names(name):
    model = build(name, out_type='cls_token')
    spared = model.no_weight_decay()
    for key, parameter in model.named_parameters():
        decayed = key.endswith(('.weight', '.projection')) and parameter.ndim > 1
        assert (key in spared) != decayed, key


@every_backbone
@every_out_type
def test_weights_survive_saving(name, out_type, tmp_path):
    model, other = build(name, out_type=out_type).eval(), build(name, seed=1, out_type=out_type).eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    other.load_state_dict(torch.load(tmp_path / 'weights.pth', weights_only=True), strict=True)
    x = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(model(x), other(x), strict=True))


@every_backbone
@pytest.mark.parametrize('as_list', [False, True])
def test_init_cfg_as_dict_and_as_list(name, as_list):
    cfg = dict(type='Constant', layer='Linear', val=0.125, bias=0.5)
    model = build(name, init_cfg=[cfg] if as_list else cfg)
    model.init_weights()
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert all((m.weight == 0.125).all() and (m.bias is None or (m.bias == 0.5).all()) for m in linears)


@every_backbone
def test_bfloat16_autocast_is_close(name):
    model = build(name).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            half = model(x)
    for a, b in zip(exact, half, strict=True):
        assert (a - b).norm() < 0.05 * a.norm()


@pytest.mark.usefixtures('fresh_compiler')
@every_backbone
def test_compiles_into_one_graph(name):
    model = build(name).eval()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        compiled = torch.compile(model, fullgraph=True, backend='eager')
        x = torch.randn(1, 3, 64, 80)
        with torch.no_grad():
            for a, b in zip(model(x), compiled(x), strict=True):
                torch.testing.assert_close(a, b)


@pytest.mark.usefixtures('fresh_compiler')
@every_backbone
def test_compiles_with_checkpointing(name):
    model = build(name, with_cp=True).train()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loss_of(torch.compile(model, backend='eager')(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None for p in model.parameters())


@every_backbone
def test_a_mask_is_refused(name):
    """MMPretrain's SimMIM, BEiT and MaskFeat pass theirs by position, and ``None`` to extract features."""
    model = MODELS.build(SMALL[name]).eval()
    with pytest.raises(InputError, match=f'{name} takes no mask: masked image modelling'):
        model(torch.zeros(1, 3, 64, 64), torch.ones(1, 4, 4))
    with torch.no_grad():
        assert len(model(torch.zeros(1, 3, 64, 64), mask=None)) == 4


@every_backbone
@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.filterwarnings('ignore')  # of the tracer, about every size
def test_a_trace_holds_for_other_batches_and_sizes(name, fused):
    model = build(name).eval()
    model = model.fuse() if fused else model
    traced = torch.jit.trace(model, (torch.randn(1, 3, 128, 128),), check_trace=False)
    x = torch.randn(2, 3, 160, 224)
    with torch.no_grad():
        for expected, found in zip(model(x), traced(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

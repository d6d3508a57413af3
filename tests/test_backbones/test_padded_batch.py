"""With ``mask_padding`` an image's maps do not depend on the batch it is in."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

import xvit_det
from xvit_det.backbones import Backbone
from xvit_det.errors import InputError

ARCH = dict(embed_dims=32, depth=5, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
XCIT = dict(ARCH, attn_dims=32, class_block='xcit', tokens_norm=True, ceil_pool=False)
_ALL = dict(head_dims=8, pyramid_indices=(0, 1, 2, 3))
_ONE = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), hidden_dims=(32,), **_ALL)
_TWO = dict(embed_dims=(16, 32), depths=(2, 2), num_heads=(2, 4), hidden_dims=(32, 64), **_ALL)
VIX = dict(type='ViX', arch=dict(_ONE, init_std=0.5), mixer='softmax')
CASES = {
    'X-ViT': dict(type='XViT', arch=ARCH),
    'X-ViT with XCA': dict(type='XViT', arch=dict(XCIT, ceil_pool=True), mixer='xca'),
    'XCiT': dict(type='XViT', arch=XCIT, mixer='xca', patch_size=8),
    'X-ViT with softmax': dict(type='XViT', arch=ARCH, mixer='softmax'),
    'ViX': VIX,
    'ViX, Performer, axial': dict(VIX, mixer='performer', position='axial'),
    'ViX, XNorm, deep_conv stem': dict(VIX, mixer='xnorm', stem='deep_conv'),
    'ViX, conv stem': dict(VIX, mixer='identity', stem='conv', patch_size=8),
    'ViX, patch_norm stem': dict(VIX, stem='patch_norm'),
    'LeViX': dict(type='LeViX', arch=dict(_TWO, pre_norm=True), mixer='softmax'),
    'LeViX, XCA': dict(type='LeViX', arch=dict(_TWO, pre_norm=False), mixer='xca'),
    'CCX': dict(
        type='CCX', arch=dict(_ONE, tokenizer_widths=(8,), tokenizer_kernel=3, pool_stride=2), mixer='performer'
    ),
    'CvX': dict(type='CvX', arch=dict(_TWO, kernels=(7, 3), later_stride=2), mixer='softmax', patch_size=8),
    'PiX': dict(type='PiX', arch=dict(_TWO, init_std=0.5), mixer='xnorm', stem='overlap'),
}
every_out_type = pytest.mark.parametrize('out_type', ['pyramid', 'featmap', 'cls_token', 'avg_featmap'])
every_case = pytest.mark.parametrize('name', CASES)


def build(**options) -> Backbone:
    """A backbone whose norms have statistics that are not the identity, as after training."""
    torch.manual_seed(0)
    options = {**CASES['X-ViT'], **options}
    model = getattr(xvit_det, options.pop('type'))(**options).eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    return model


def draw(*sizes: tuple[int, int]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Images of these sizes, and their padded batch."""
    images = [torch.randn(3, *size) for size in sizes]
    batch = torch.zeros(len(sizes), 3, *map(max, zip(*sizes, strict=True)))
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return images, batch


def part(outs, number, alone):
    """What the outputs of a batch have for one image."""
    return [
        whole[number, ..., : own.shape[2], : own.shape[3]] if own.ndim == 4 else whole[number]
        for whole, own in zip(outs, alone, strict=True)
    ]


@pytest.mark.usefixtures('fresh_compiler')
@pytest.mark.parametrize('name', ['X-ViT', 'PiX'])
def test_compiles_into_one_graph(name):
    model = build(**CASES[name], mask_padding=True)
    x = torch.randn(1, 3, 64, 80)
    x[..., 70:] = 0
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    with torch.no_grad():
        for a, b in zip(model(x), compiled(x), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('name', ['X-ViT', 'ViX'])
@pytest.mark.parametrize('sizes', [[[32, 64]], [32, 64], [[64, 33], [64, 64]], [[0, 5], [32, 64]]])
def test_image_sizes_that_do_not_fit_are_refused(name, sizes):
    with pytest.raises(InputError, match=r'image_sizes .* is not a \(height, width\) within \(32, 64\)'):
        build(**CASES[name], mask_padding=True)(torch.randn(2, 3, 32, 64), image_sizes=torch.tensor(sizes))


@torch.no_grad()
@every_out_type
@every_case
def test_an_image_in_a_padded_batch_gives_what_it_gives_alone(name, out_type):
    model = build(**CASES[name], out_type=out_type, mask_padding=True)
    smallest = (1, 1) if name.startswith('X-ViT') else (25, 25)
    images, batch = draw((97, 130), (160, 50), (33, 27), (160, 224), smallest)
    found = model(batch)
    given = model(batch + (batch == 0), image_sizes=torch.tensor([image.shape[1:] for image in images]))
    for number, image in enumerate(images):
        alone = model(image[None])
        for outs in (found, given):
            for a, b in zip(part(outs, number, alone), alone, strict=True):
                torch.testing.assert_close(a, b[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@every_case
def test_without_the_mask_padding_is_seen(name):
    model = build(**CASES[name])
    (image, _), batch = draw((64, 64), (128, 128))
    alone = model(image[None])
    for a, b in zip(part(model(batch), 0, alone), alone, strict=True):
        assert (a - b[0]).norm() > 0.001 * b.norm()


@pytest.mark.parametrize('with_cp', [False, True])
@every_case
def test_gradients_are_those_of_the_image_alone(name, with_cp):
    """In training, with the BatchNorms as in evaluation."""
    model = build(**CASES[name], mask_padding=True, norm_eval=True, with_cp=with_cp).train()
    (image, _), batch = draw((64, 72), (96, 96))
    alone = model(image[None])
    results = [m[0] for m in alone], part(model(batch), 0, alone)
    losses = [sum((m * torch.linspace(-1, 1, m.numel()).view_as(m)).sum() for m in maps) for maps in results]
    gradients = [torch.autograd.grad(loss, model.parameters()) for loss in losses]
    for (key, _), a, b in zip(model.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * b.abs().max().item() + 1e-3, msg=key)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (dict(mixer=dict(type='nystrom', landmarks=4)), 'NystromAttention: its landmarks are means of consecutive'),
        (dict(mixer='linformer'), 'LinformerAttention: its projection is resampled'),
        (dict(mixer='fourier'), 'FourierMixer: every output is a sum over all tokens'),
        (dict(mixer='mlp'), 'MLPMixer: every output has a weight for each token'),
        (dict(mixer=dict(type='performer', local_heads=1)), 'PerformerAttention: its windows are consecutive tokens'),
        (
            dict(position='rotary'),
            "position='rotary', which counts tokens along the rows of the whole map; take 'axial'",
        ),
    ],
)
def test_what_cannot_be_masked_is_refused(options, reason):
    with pytest.raises(InputError, match=f'^mask_padding=True is not possible with {reason}') as error:
        build(**{**VIX, **options}, mask_padding=True)
    assert str(error.value).endswith('mixers that can be masked: softmax, performer, xnorm, xca, identity')


@torch.no_grad()
@pytest.mark.parametrize('name', ['X-ViT', 'ViX', 'PiX'])
def test_a_gpu_is_never_waited_for(name):
    """On a pretended GPU, whose tensors have no values, reading one fails."""
    model = build(**CASES[name], mask_padding=True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda')
            for name, tensor in (*model.named_parameters(), *model.named_buffers())
        }
        x = torch.empty(2, 3, 64, 96, device='cuda')
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
        maps = torch.func.functional_call(model, tensors, x)
    assert [tuple(m.shape[-2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert {m.device.type for m in maps} == {'cuda'}

"""X-ViT with ``mask_padding``: an image's maps do not depend on the batch it is in."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm

from xvit_det import XViT
from xvit_det.errors import InputError

ARCH = dict(embed_dims=32, depth=5, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=2, layer_scale=1.0)
XCIT = dict(ARCH, attn_dims=32, class_block='xcit', tokens_norm=True, ceil_pool=False)
every_out_type = pytest.mark.parametrize('out_type', ['pyramid', 'featmap', 'cls_token', 'avg_featmap'])


def build(**options) -> XViT:
    torch.manual_seed(0)
    return XViT(**{'arch': ARCH, **options})


@pytest.mark.usefixtures('fresh_compiler')
def test_compiles_into_one_graph():
    model = build(mask_padding=True).eval()
    x = torch.randn(1, 3, 64, 80)
    x[..., 70:] = 0
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    with torch.no_grad():
        for a, b in zip(model(x), compiled(x), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('sizes', [[[32, 64]], [32, 64], [[64, 33], [64, 64]], [[0, 5], [32, 64]]])
def test_image_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(InputError, match=r'image_sizes .* is not a \(height, width\) within \(32, 64\)'):
        build(mask_padding=True)(torch.randn(2, 3, 32, 64), image_sizes=torch.tensor(sizes))


@every_out_type
@pytest.mark.parametrize(
    'options',
    [
        dict(arch=ARCH),
        dict(arch=dict(XCIT, ceil_pool=True), mixer='xca'),
        dict(arch=XCIT, mixer='xca', patch_size=8),
        dict(arch=ARCH, mixer='softmax'),
    ],
    ids=['xnorm', 'xca', 'xca of patches of 8', 'softmax'],
)
@pytest.mark.parametrize('given', [True, False], ids=['sizes given', 'sizes found'])
def test_an_image_in_a_padded_batch_gives_what_it_gives_alone(options, out_type, given):
    model = build(out_type=out_type, mask_padding=True, **options).eval()
    torch.manual_seed(1)
    for module in model.modules():  # statistics that are not the identity, as after training
        if isinstance(module, _BatchNorm):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    smallest = (1, 1) if options['arch'].get('ceil_pool', True) else (25, 25)
    sizes = [(97, 130), (160, 50), (33, 27), (160, 224), smallest]
    images = [torch.randn(3, *size) for size in sizes]
    batch = torch.zeros(5, 3, 160, 224)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    with torch.no_grad():
        together = model(batch, image_sizes=torch.tensor(sizes) if given else None)
        for number, image in enumerate(images):
            for whole, alone in zip(together, model(image[None]), strict=True):
                part = whole[number]
                if alone.ndim == 4:
                    part = part[:, : alone.shape[2], : alone.shape[3]]
                torch.testing.assert_close(part, alone[0], rtol=1e-5, atol=1e-5)


def test_without_the_mask_padding_is_seen():
    model = build(out_type='featmap').eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        alone = model(image)[0]
        padded = model(torch.nn.functional.pad(image, (0, 64, 0, 64)))[0][..., :4, :4]
    assert (alone - padded).norm() > 0.01 * alone.norm()


@torch.no_grad()
def test_a_gpu_is_never_waited_for():
    """On a pretended GPU, whose tensors have no values, reading one fails."""
    model = XViT(arch=ARCH, mask_padding=True).eval()
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

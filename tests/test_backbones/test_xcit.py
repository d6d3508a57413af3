"""XViT with XCA is XCiT: the same maps and logits as mmpretrain's and timm's classes give with the same weights."""

import pytest
import timm
import torch
from mmpretrain.models.backbones import XCiT
from timm.models.xcit import Xcit
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xvit_det import XViT
from xvit_det.backbones.xvit_archs import XCIT
from xvit_det.weights.families import XCIT as XCIT_NAMES
from xvit_det.weights.translate import translate

WIDTH, DEPTH, HEADS, CLASSES = 32, 3, 4, 10
ARCH = dict(embed_dims=WIDTH, depth=DEPTH, attn_dims=WIDTH, num_heads=HEADS, mlp_ratio=4, num_class_layers=2)
SIZES = [(224, 224), (97, 131)]


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an XCiT under our names."""
    ours, source = translate(weights)
    assert source is not None and source.family is XCIT_NAMES
    return {name.removeprefix('backbone.'): weight for name, weight in ours.items()}


@torch.no_grad()
def scramble(model: nn.Module) -> nn.Module:
    """Norms, scales, temperatures and statistics far from neutral, so that nothing can be mixed up unseen."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or 'temperature' in name:
            nn.init.normal_(parameter, 0.0 if name.endswith('bias') else 1.0, 0.5)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    model.eval()  # mmpretrain's returns nothing
    return model


def build_timm(**options) -> nn.Module:
    return Xcit(embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=CLASSES, **options)


def build_mmpretrain(**options) -> nn.Module:
    model = XCiT(embed_dims=WIDTH, depth=DEPTH, num_heads=HEADS, **options)
    model.head = nn.Linear(WIDTH, CLASSES)
    return model


def maps_and_logits(peer: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    if isinstance(peer, Xcit):
        return peer.forward_intermediates(x, indices=list(range(DEPTH)), intermediates_only=True), peer(x)
    outs = []
    for peer.out_type, peer.out_indices in (('featmap', range(DEPTH)), ('cls_token', [DEPTH + 1])):
        outs += peer(x)
    return outs[:-1], peer.head(outs[-1])


def build_ours(weights: dict[str, Tensor], **options) -> XViT:
    tokens_norm = options.pop('tokens_norm')
    arch = dict(ARCH, layer_scale=1.0, class_block='xcit', tokens_norm=tokens_norm, ceil_pool=False)
    model = XViT(arch=arch, mixer='xca', **options).to(weights['cls_token'].dtype).eval()
    own = model.state_dict()
    model.load_state_dict({name: w for name, w in weights.items() if name in own})
    return model


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize('tokens_norm', [True, False])
@pytest.mark.parametrize('patch_size', [16, 8])
@pytest.mark.parametrize('peer', [build_timm, build_mmpretrain])
@torch.no_grad()
def test_maps_and_logits_are_xcits(peer, patch_size, tokens_norm, dtype, tolerance):
    # The peers compute their position encoding in float32.
    position = dtype == torch.float32
    torch.manual_seed(0)
    theirs = scramble(peer(patch_size=patch_size, tokens_norm=tokens_norm, use_pos_embed=position)).to(dtype)
    weights = renamed(theirs.state_dict())
    options = dict(patch_size=patch_size, tokens_norm=tokens_norm, position=position)
    maps = build_ours(weights, **options, out_type='featmap', out_indices=range(DEPTH))
    classifier = build_ours(weights, **options, out_type='cls_token')
    used = {*maps.state_dict(), *classifier.state_dict()}
    assert set(weights) - used == {'head.fc.weight', 'head.fc.bias'}
    for size in SIZES:
        x = torch.randn(2, 3, *size, dtype=dtype)
        expected, logits = maps_and_logits(theirs, x)
        outs = [*maps(x), theirs.head(classifier(x)[0])]
        for out, wanted in zip(outs, [*expected, logits], strict=True):
            assert out.shape == wanted.shape
            assert (out - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.parametrize('patch_size', [16, 8])
@pytest.mark.parametrize('arch', XCIT)
def test_every_arch_has_the_shapes_of_timms(arch, patch_size):
    name = f'xcit_{arch}_p{patch_size}_224'
    with torch.device('meta'):
        theirs = timm.create_model(name)
        ours = XViT(arch=arch, mixer='xca', patch_size=patch_size, out_type='cls_token').state_dict()
    weights = {key: weight.shape for key, weight in renamed(theirs.state_dict()).items() if not key.startswith('head.')}
    assert weights == {key: weight.shape for key, weight in ours.items()}
    assert XCIT[arch]['tokens_norm'] == theirs.cls_attn_blocks[0].tokens_norm
    assert XCIT[arch]['num_heads'] == theirs.blocks[0].attn.num_heads
    gamma = timm.create_model(name, depth=1, cls_attn_layers=0).blocks[0].gamma1
    assert (gamma == XCIT[arch]['layer_scale']).all()

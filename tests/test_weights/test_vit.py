"""ViX with softmax attention and biases is DeiT: the same maps and logits as timm's and mmpretrain's classes give."""

import pytest
import timm
import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from xvit_det import InputError, ViX, list_models
from xvit_det.weights.translate import translate

WIDTH, DEPTH, HEADS, CLASSES, SIDE = 32, 3, 2, 10, 64
ARCH = dict(
    embed_dims=(WIDTH,), depths=(DEPTH,), num_heads=(HEADS,), head_dims=WIDTH // HEADS, hidden_dims=(4 * WIDTH,)
) | dict(pyramid_indices=(0, 1, 2, 2), init_std=0.02)


def build_timm(**options) -> nn.Module:
    settings = dict(img_size=SIDE, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=CLASSES)
    return timm.models.VisionTransformer(**settings, **options)


class MMPretrain(nn.Module):
    """A classifier of theirs, with the names of its parts."""

    def __init__(self) -> None:
        super().__init__()
        arch = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=HEADS, feedforward_channels=4 * WIDTH)
        self.backbone = VisionTransformer(arch=arch, img_size=SIDE, out_indices=(0, 1, 2))
        self.head = nn.Module()
        self.head.layers = nn.Module()
        self.head.layers.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.backbone.out_type, self.backbone.final_norm = 'cls_token', True
        return self.head.layers.head(self.backbone(x)[-1])

    def maps(self, x: Tensor) -> list[Tensor]:
        self.backbone.out_type, self.backbone.final_norm = 'featmap', False
        return list(self.backbone(x))


def maps_of(peer: nn.Module, x: Tensor) -> list[Tensor]:
    if isinstance(peer, MMPretrain):
        return peer.maps(x)
    return peer.forward_intermediates(x, indices=[0, 1, 2], intermediates_only=True)


@torch.no_grad()
def scramble(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights far from neutral, so that nothing can be mixed up unseen."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.0 if name.endswith('bias') else 1.0, 0.5)
        else:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    model.eval()  # mmpretrain's returns nothing
    return model


def build_ours(weights: dict[str, Tensor], **options) -> ViX:
    mixer = dict(type='softmax', qkv_bias=True)
    model = ViX(arch=ARCH, mixer=mixer, img_size=SIDE, norm_eps=1e-6, **options).eval()
    own = model.state_dict()
    bare = {name.removeprefix('backbone.'): weight for name, weight in weights.items()}
    model.to(bare['norms.0.weight'].dtype).load_state_dict({name: w for name, w in bare.items() if name in own})
    return model


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize('build', [build_timm, MMPretrain])
@torch.no_grad()
def test_maps_and_logits_are_deits(build, dtype, tolerance):
    theirs = scramble(build()).to(dtype)
    weights, source = translate(theirs.state_dict())
    assert str(source) == 'ViT 3 blocks of width 32, patch 16, classifier'
    classifier = build_ours(weights, out_type='cls_token')
    assert set(weights) == {f'backbone.{n}' for n in classifier.state_dict()} | {'head.fc.weight', 'head.fc.bias'}
    x = torch.randn(2, 3, SIDE, SIDE, dtype=dtype)
    logits = nn.functional.linear(classifier(x)[0], weights['head.fc.weight'], weights['head.fc.bias'])
    outs, expected = [*maps_of_ours(classifier, x), logits], [*maps_of(theirs, x), theirs(x)]
    for out, wanted in zip(outs, expected, strict=True):
        assert (out - wanted).abs().max() <= tolerance * wanted.abs().max()


def maps_of_ours(model: ViX, x: Tensor) -> list[Tensor]:
    """Every block's tokens as maps, computed with the class token, as theirs are."""
    maps = []
    x, (h, w) = model.entries[0](x)
    for block in model.blocks:
        x = block(x, (h, w))
        maps.append(x[:, 1:].transpose(1, 2).unflatten(2, (h, w)))  # (B, 1 + N, C) -> (B, C, h, w)
    return maps


def test_a_patch_is_reordered():
    """Unpermuted, the weights of the patches have the same shape, and give another map."""
    theirs = scramble(build_timm())
    weights, _ = translate(theirs.state_dict())
    raw = theirs.state_dict()['patch_embed.proj.weight']
    ours = weights['backbone.entries.0.stem.proj.weight']
    assert ours.shape == raw.flatten(1).shape and not torch.equal(ours, raw.flatten(1))
    model = build_ours(weights, out_type='cls_token')
    x = torch.randn(1, 3, SIDE, SIDE)
    torch.testing.assert_close(model.entries[0].stem(x), theirs.patch_embed.proj(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', ['deit_tiny', 'deit_small', 'deit_base', 'vit_tiny', 'vit_small', 'vit_base'])
def test_variants_are_recognised(name):
    with torch.device('meta'):
        weights = timm.create_model(f'{name}_patch16_224').state_dict()
        theirs = VisionTransformer(arch=f'deit-{name.split("_")[1]}').state_dict()
    for head, kept in ((True, weights), (False, {f'backbone.{key}': weight for key, weight in theirs.items()})):
        source = translate(kept)[1]
        assert source.kind == ('classifier' if head else 'backbone')
        assert source.config == f'deit_{name.split("_")[1]}_p16_in1k' in list_models()


def test_distilled_deit_is_refused():
    with torch.device('meta'):
        weights = timm.create_model('deit_tiny_distilled_patch16_224', depth=1).state_dict()
    with pytest.raises(InputError, match='no place in that model, such as dist_token: a distilled DeiT'):
        translate(weights)


@pytest.mark.parametrize(
    ('name', 'missing'),
    [('deit3_small_patch16_224', r'blocks\.0\.ls1'), ('beit_base_patch16_224', 'norm1|gamma|q_bias')],
)
def test_relatives_are_refused(name, missing):
    with torch.device('meta'):
        weights = timm.create_model(name, depth=1).state_dict()
    with pytest.raises(InputError, match=rf'look like ViT.*no place in that model, such as .*({missing})'):
        translate(weights)


@pytest.mark.parametrize(
    'name', ['swin_tiny_patch4_window7_224', 'resnet18', 'pit_ti_224', 'levit_128s', 'convit_tiny']
)
def test_other_families_are_left_alone(name):
    with torch.device('meta'):
        weights = timm.create_model(name).state_dict()
    same, source = translate(weights)
    assert source is None and same is weights


def test_nothing_of_ours_is_taken_for_theirs():
    for stem in ('patch', 'patch_norm', 'overlap'):
        model = ViX(arch=ARCH, mixer='softmax', stem=stem, img_size=SIDE, out_type='cls_token')
        assert translate(model.state_dict())[1] is None

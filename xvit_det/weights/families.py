"""The families of models whose published weights fit ours, with their names for what ours call otherwise: data only.

A row of ``names`` starts with our name, and goes on with those of the authors and timm, and of MMPretrain where they
differ. ``#`` is a number. What follows, such as ``.weight``, is the same in all.
"""

from dataclasses import dataclass
from typing import Any

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Family:
    """A family of published models.

    Attributes:
        title: Its name for people.
        licence: Of the weights that its authors published; ``''``: it has several authors with licences of their own.
        assumed: What neither names nor shapes tell, with a place for the number of heads.
        mixer: Our token mixer, as configs name it.
        model: Start of our configs' names.
        sizes: Their names of the sizes by width and depth.
        names: See above; those of the backbone, without ``backbone.``.
        landmarks: Patterns of their names by which the family is recognised.
    """

    title: str
    licence: str
    assumed: str
    mixer: str | dict[str, Any]
    model: str
    sizes: dict[tuple[int, int], str]
    names: Rows
    landmarks: tuple[str, ...]


def _below(places: tuple[str, ...], rows: Rows) -> Rows:
    """The rows of a part: its place in our model, and each of its places in theirs."""
    ours, *theirs = places
    return tuple(
        (f'{ours}.{name}', *(f'{place}.{other}' for place in theirs for other in others)) for name, *others in rows
    )


_MLP: Rows = (('mlp.0', 'mlp.fc1', 'ffn.layers.0.0'), ('mlp.2', 'mlp.fc2', 'ffn.layers.1'))
_ATTENTION: Rows = (('qkv', 'qkv'), ('proj', 'proj'))

XCIT = Family(
    title='XCiT',
    licence='Apache-2.0',
    assumed='',
    mixer='xca',
    model='xcit',
    sizes={
        (128, 12): 'nano_12',
        (192, 12): 'tiny_12',
        (192, 24): 'tiny_24',
        (384, 12): 'small_12',
        (384, 24): 'small_24',
        (512, 24): 'medium_24',
        (768, 24): 'large_24',
    },
    names=(
        *((f'stem.convs.{i}', f'patch_embed.proj.{2 * i}.0', f'patch_embed.proj.{i}.conv') for i in range(4)),
        *((f'stem.norms.{i}', f'patch_embed.proj.{2 * i}.1', f'patch_embed.proj.{i}.bn') for i in range(4)),
        (
            'pos_embed.proj',
            'pos_embeder.token_projection',
            'pos_embed.token_projection',
            'pos_embed.token_projection.conv',
        ),
        *_below(
            ('blocks.#', 'blocks.#', 'xca_layers.#'),
            (
                ('norm1', 'norm1'),
                *_below(('attn', 'attn'), (*_ATTENTION, ('temperature', 'temperature'))),
                ('affine1.alpha', 'gamma1'),
                # Theirs are numbered as in the constructor, ours as they run: local patch interaction before the MLP.
                ('norm2', 'norm3'),
                ('affine2.alpha', 'gamma3'),
                ('norm3', 'norm2'),
                ('affine3.alpha', 'gamma2'),
                ('lpi.conv1', 'local_mp.conv1', 'local_mp.conv1.conv'),
                ('lpi.norm', 'local_mp.bn', 'local_mp.conv1.bn'),
                ('lpi.conv2', 'local_mp.conv2', 'local_mp.conv2.conv'),
                *_MLP,
            ),
        ),
        *_below(
            ('class_blocks.#', 'cls_attn_blocks.#', 'ca_layers.#'),
            (
                ('norm1', 'norm1'),
                *_below(('attn', 'attn'), (*_ATTENTION, ('q', 'q'), ('k', 'k'), ('v', 'v'))),
                ('affine1.alpha', 'gamma1'),
                ('norm2', 'norm2'),
                ('affine2.alpha', 'gamma2'),
                *_MLP,
            ),
        ),
        ('cls_token', 'cls_token'),
        ('norm', 'norm'),
        *((f'pyramid.levels.{i}.#', f'fpn{i + 1}.#') for i in range(2)),
    ),
    landmarks=(r'(?:blocks|xca_layers)\.0\.local_mp\.conv1(?:\.conv)?\.weight',),
)

VIT = Family(
    title='ViT',
    licence='',
    assumed="{} heads, and images normalised as for ImageNet (most of timm's vit_* have mean and deviation 127.5)",
    mixer=dict(type='softmax', qkv_bias=True),
    model='deit',
    sizes={(192, 12): 'tiny', (384, 12): 'small', (768, 12): 'base'},
    names=(
        ('entries.0.cls_token', 'cls_token'),
        ('entries.0.pos_embed.table', 'pos_embed'),
        ('entries.0.stem.proj', 'patch_embed.proj', 'patch_embed.projection'),
        *_below(
            ('blocks.#', 'blocks.#', 'layers.#'),
            (
                ('norm1', 'norm1', 'ln1'),
                *_below(('mixer', 'attn'), _ATTENTION),
                ('norm2', 'norm2', 'ln2'),
                *_MLP,
            ),
        ),
        ('norms.0', 'norm', 'ln1'),
    ),
    landmarks=(r'patch_embed\.proj(?:ection)?\.weight', r'(?:blocks|layers)\.0\.attn\.qkv\.weight'),
)

FAMILIES = (XCIT, VIT)
# The classifier's last layer: ours; the authors' and timm's, MMPretrain's for XCiT, MMPretrain's for ViT.
HEAD: Rows = (('head.fc', 'head', 'head.fc', 'head.layers.head'),)

# What a file is for, by the start of a name that only such a file has, and our config for it.
KINDS = {
    'roi_head.mask_head.': ('Mask R-CNN', 'mask_rcnn_{}_3x'),
    'decode_head.scale_heads.': ('Semantic FPN', 'semantic_fpn_{}_ade20k_80k'),
    'decode_head.psp_modules.': ('UPerNet', 'upernet_{}_ade20k_160k'),
    'head.fc.': ('classifier', '{}_in1k'),
    'backbone.': ('backbone', '{}_in1k'),
}

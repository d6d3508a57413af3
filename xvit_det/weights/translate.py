"""From other projects' names of weights to ours. Whatever loads weights comes through here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from xvit_det.errors import InputError
from xvit_det.weights.families import FAMILIES, HEAD, KINDS, VIT, Family, Rows

BACKBONE = 'backbone.'
_LEAF = r'((?:\.(?:weight|bias|running_mean|running_var|num_batches_tracked))?)'
# What precedes a backbone's names: nothing in its own file, something in that of a whole model or of one wrapped for
# DDP. No others: a teacher's backbone is part of what a distilled model's file holds.
ROOTS = ('', BACKBONE, 'module.', f'module.{BACKBONE}')
# What a backbone's file may hold besides the backbone: heads of classifiers and of self-supervised training.
_OTHER_PARTS = ('head.', 'decoder_', 'mask_token')
# Names of ours that depend on what the backbone is used for: each use leaves out the others'.
OPTIONAL = ('pyramid.', 'class_blocks.', 'cls_token', 'entries.0.cls_token', 'norm.', 'norms.', 'head.')


@dataclass(frozen=True)
class Source:
    """What a file of another project holds, recognised by names and shapes.

    Attributes:
        family: The family of models.
        embed_dims: Width C of the tokens.
        depth: Number of blocks.
        patch_size: Side of a patch in pixels.
        kind: What it is for, one of those in ``KINDS``.
    """

    family: Family
    embed_dims: int
    depth: int
    patch_size: int
    kind: str

    def __str__(self) -> str:
        size = self.family.sizes.get((self.embed_dims, self.depth), f'{self.depth} blocks of width {self.embed_dims}')
        return f'{self.family.title} {size.replace("_", " ")}, patch {self.patch_size}, {self.kind}'

    @property
    def assumed(self) -> str:
        """What a file does not say, and is taken to be so; empty if there is no such thing."""
        return self.family.assumed.format(self.embed_dims // 64)

    @property
    def config(self) -> str | None:
        """Name of the config that fits; ``None`` for a size without a name."""
        size = self.family.sizes.get((self.embed_dims, self.depth))
        (pattern,) = [config for kind, config in KINDS.values() if kind == self.kind]
        return size and pattern.format(f'{self.family.model}_{size}_p{self.patch_size}')


def translate(weights: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], Source | None]:
    """Give the weights of a published model our names and shapes.

    Args:
        weights: Those of a file, of a backbone alone or of a model with heads.

    Returns:
        The weights of a whole model of ours (``backbone.…``, ``head.fc.…``, a detector's neck and heads as they are),
        and what they are. A name that is understood by nobody stays, below ``backbone.`` or not, for whoever loads the
        weights to report. Weights of no known family, and ours, are returned as they are, with ``None``.

    Raises:
        InputError: The family is recognised, but the backbone has weights that no model of it has.
    """
    for family in FAMILIES:
        if (root := _root(family, weights)) is not None:
            break
    else:
        return weights, None
    wrapper = root.removesuffix(BACKBONE)
    ours: dict[str, Tensor] = {}
    strange = []
    for name, weight in weights.items():
        bare = name.removeprefix(root if name.startswith(root) else wrapper)
        known = _ours(family.names, bare) if name.startswith(root) else None
        if known:
            ours[BACKBONE + known] = weight
        elif head := _ours(HEAD, bare):
            ours[head] = weight
        elif name.startswith(root) and not bare.startswith(_OTHER_PARTS):
            strange.append(bare)
        else:
            ours[bare] = weight
    source = _describe(family, ours)
    if strange:
        hint = ': a distilled DeiT, whose second token has no place here; use the file that is not distilled'
        raise InputError(
            f'these weights look like {source}, but {len(strange)} of them have no place in that model, such as '
            f'{strange[0]}{hint if "dist_token" in strange else ""}'
        )
    return _reshape(ours), source


def _root(family: Family, names: Mapping[str, Tensor]) -> str | None:
    """What precedes the backbone's own names; ``None`` if this is not the family."""
    for root in ROOTS:
        if all(any(re.fullmatch(re.escape(root) + mark, name) for name in names) for mark in family.landmarks):
            return root
    return None


def _ours(rows: Rows, name: str) -> str | None:
    """Our name for one of theirs, or ``None``."""
    for pattern, ours in _patterns(rows):
        if match := pattern.fullmatch(name):
            *numbers, leaf = match.groups()
            return ours.replace('#', '{}').format(*numbers) + leaf
    return None


@cache
def _patterns(rows: Rows) -> list[tuple[re.Pattern, str]]:
    return [
        (re.compile(re.escape(other).replace(r'\#', r'(\d+)') + _LEAF), ours)
        for ours, *others in rows
        for other in others
    ]


def _describe(family: Family, weights: Mapping[str, Tensor]) -> Source:
    norm = weights.get(f'{BACKBONE}blocks.0.norm1.weight')
    if norm is None:
        raise InputError(f'these weights look like {family.title}, but have no norm in front of the first attention')
    if family is VIT and f'{BACKBONE}entries.0.cls_token' not in weights:
        raise InputError('these weights look like ViT, but have no class token, which takes part in its attention')
    blocks = {int(match[1]) for name in weights if (match := re.match(rf'{BACKBONE}blocks\.(\d+)', name))}
    kind = next(kind for start, (kind, _) in KINDS.items() if any(name.startswith(start) for name in weights))
    return Source(family, len(norm), max(blocks) + 1, _patch_size(weights), kind)


def _patch_size(weights: Mapping[str, Tensor]) -> int:
    """The kernel of ViT's one convolution; XCiT's have stride 2 each."""
    patches = weights.get(f'{BACKBONE}entries.0.stem.proj.weight')
    if patches is not None:
        return patches.shape[-1]
    return 2 ** len([name for name in weights if re.fullmatch(rf'{BACKBONE}stem\.convs\.\d+\.weight', name)])


def _reshape(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that have our names already, in our shapes, with those that theirs do not need."""
    ours: dict[str, Tensor] = {}
    for name, weight in weights.items():
        place, _, leaf = name.rpartition('.')
        if name.endswith('stem.proj.weight'):
            ours[name] = weight.permute(0, 2, 3, 1).flatten(1)  # (C, 3, p, p) -> (C, p·p·3): our patches' order
        elif '.class_blocks.' in name and place.endswith(('.k', '.v')):
            parts = [weights.get(f'{place[:-1]}{part}.{leaf}') for part in 'kv']
            ours[f'{place[:-1]}kv.{leaf}'] = torch.cat([part for part in parts if part is not None])
        elif '.class_blocks.' in name and place.endswith('.qkv'):
            q = len(weight) // 3
            ours |= {f'{place[:-3]}{part}.{leaf}': rows for part, rows in (('q', weight[:q]), ('kv', weight[q:]))}
        else:
            ours[name] = weight
        if leaf == 'alpha':
            ours[f'{place}.beta'] = torch.zeros_like(weight)
    return ours

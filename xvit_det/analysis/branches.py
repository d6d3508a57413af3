"""What the residual branches of a trained backbone add to its stream, and the same model with some of them replaced.

A branch is all that is added to the stream: with X-ViT's affine, without stochastic depth, which inference leaves out.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from xvit_det.backbones.base import find_backbone
from xvit_det.backbones.xvit import XViTBlock
from xvit_det.errors import InputError, suggest
from xvit_det.layers import ClassAttentionBlock, MixerBlock, PostNormBlock, XCiTClassBlock

# The branches of each block: the part that reads the stream, and the part whose output is added to it.
PARTS: dict[type[nn.Module], dict[str, tuple[str, str]]] = {
    XViTBlock: dict(mixer=('norm1', 'affine1'), local=('norm2', 'affine2'), mlp=('norm3', 'affine3')),
    PostNormBlock: dict(mixer=('norm1', 'mixer'), mlp=('mlp', 'mlp')),  # a MixerBlock, too: the first entry counts
    MixerBlock: dict(mixer=('norm1', 'mixer'), mlp=('norm2', 'mlp')),
    ClassAttentionBlock: dict(mixer=('norm1', 'affine1'), mlp=('norm2', 'affine2')),
    XCiTClassBlock: dict(mixer=('norm1', 'affine1'), mlp=('mlp', 'affine2')),
}


class Branch(NamedTuple):
    """A residual branch: its block, the part that reads the stream, and the part whose output is added to it."""

    block: nn.Module
    reads: nn.Module
    adds: nn.Module


class BranchStatistics:
    """What a branch added to the stream, over the valid tokens of all images that the model has seen.

    Attributes:
        tokens: Number of tokens.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._stream_squares: Any = 0.0

    def add(self, output: Tensor, stream: Tensor, valid: Tensor | None) -> None:
        """Count the tokens of a batch.

        Args:
            output: What the branch adds (B, T, C).
            stream: What it is added to (B, T, C).
            valid: (B, T) bool, false at padding; ``None``: all tokens are valid.
        """
        chosen = output.new_ones(output.shape[:2], dtype=torch.bool) if valid is None else valid
        output, stream = output[chosen].double(), stream[chosen].double()  # (B, T, C) -> (n, C)
        self.tokens += len(output)
        self._sum = self._sum + output.sum(dim=0)
        self._squares = self._squares + output.square().sum()
        self._stream_squares = self._stream_squares + stream.square().sum()

    @property
    def mean(self) -> Tensor:
        """Mean over tokens and images (C,), in float64."""
        self._check()
        return self._sum / self.tokens

    @property
    def share(self) -> float:
        """Root mean square of the branch's output over that of the stream it is added to."""
        self._check()
        return float((self._squares / self._stream_squares).sqrt())

    @property
    def varying_share(self) -> float:
        """The share without the mean: 0 for a branch that adds the same vector to every token of every image."""
        squares = (self._squares - self.tokens * self.mean.square().sum()).clamp(min=0)  # rounding could make it < 0
        return float((squares / self._stream_squares).sqrt())

    def _check(self) -> None:
        if not self.tokens:
            raise InputError('no image went through the model while its branches were recorded')


def find_branches(model: nn.Module) -> dict[str, Branch]:
    """The residual branches of a model's backbone, in the order in which they are computed.

    Args:
        model: A backbone of this package, or a detector, segmentor or classifier with one.

    Returns:
        By name: the block's name in the backbone and the kind of branch, ``'mixer'`` (attention or another token
        mixer), ``'local'`` (X-ViT's local patch interaction) or ``'mlp'``, as in ``'blocks.0.mixer'``.

    Raises:
        InputError: The model has no backbone of this package, or more than one, or one that is fused.
    """
    _, backbone = find_backbone(model)
    return {
        f'{name}.{kind}': Branch(block, block.get_submodule(reads), block.get_submodule(adds))
        for name, block in backbone.named_modules()
        for kind, (reads, adds) in _parts(block).items()
    }


def _parts(block: nn.Module) -> dict[str, tuple[str, str]]:
    return next((parts for cls, parts in PARTS.items() if isinstance(block, cls)), {})


@contextmanager
def record_branches(model: nn.Module) -> Iterator[dict[str, BranchStatistics]]:
    """Within this context, record what every branch adds to the stream, whatever images the model gets.

    With ``mask_padding`` only valid tokens count.

    Args:
        model: As for :func:`find_branches`.

    Yields:
        The statistics of each branch, by its name.

    Raises:
        InputError: As :func:`find_branches`.
    """
    branches = find_branches(model)
    statistics = {name: BranchStatistics() for name in branches}
    with ExitStack() as hooks:
        for name, branch in branches.items():
            _record(branch, statistics[name], hooks)
        yield statistics


def _record(branch: Branch, statistics: BranchStatistics, hooks: ExitStack) -> None:
    seen: dict[str, Any] = {}

    def enter(block: nn.Module, args: tuple) -> None:
        # Class attention gets ``valid``, too, but its branches are added to the class token, which always is.
        seen['valid'] = args[2] if isinstance(block, XViTBlock | MixerBlock) and len(args) > 2 else None

    def read(part: nn.Module, args: tuple) -> None:
        seen['stream'] = args[0].detach()

    def add(part: nn.Module, args: tuple, output: Tensor) -> None:
        tokens = output.shape[1]  # class attention reads all tokens and adds to the first, the class token
        statistics.add(output.detach(), seen['stream'][:, :tokens], seen['valid'])

    hooks.enter_context(branch.block.register_forward_pre_hook(enter))
    hooks.enter_context(branch.reads.register_forward_pre_hook(read))
    hooks.enter_context(branch.adds.register_forward_hook(add))


@contextmanager
def replace_branches(model: nn.Module, values: Mapping[str, Tensor | float]) -> Iterator[None]:
    """Within this context, branches add a constant to the stream instead of what they compute.

    Contexts can be nested; of two values for one branch, the inner one counts.

    Args:
        model: As for :func:`find_branches`.
        values: By name of the branch: a vector (C,), such as :attr:`BranchStatistics.mean`, or a number, such as 0.

    Raises:
        InputError: As :func:`find_branches`; an unknown name; while the model runs, a vector of another width.
    """
    branches = find_branches(model)
    for name in values:
        if name not in branches:
            raise InputError(f'no branch {name!r}; {suggest(name, branches)}')
    with ExitStack() as hooks:
        for name, value in values.items():
            hook = partial(_constant, name, torch.as_tensor(value))
            hooks.enter_context(branches[name].adds.register_forward_hook(hook))
        yield


def _constant(name: str, value: Tensor, part: nn.Module, args: tuple, output: Tensor) -> Tensor:
    if value.shape not in ((), output.shape[-1:]):
        raise InputError(
            f'branch {name} adds vectors of {output.shape[-1]} channels, not of shape {tuple(value.shape)}'
        )
    return torch.empty_like(output).copy_(value)  # memory of its own: X-ViT's blocks add the stream in place

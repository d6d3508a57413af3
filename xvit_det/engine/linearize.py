"""From one token mixer to another without labels: new mixers learn to give the outputs of those they replace.

First block by block: each new mixer gets what the old one got in the trained model, whatever the other new mixers do,
as in the attention transfer of "LoLCATs: On Low-Rank Linearizing of Large Language Models" (arXiv 2410.10254). Then, if
wanted, all of them together: the maps of the model with new mixers learn to be those of the trained one.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from xvit_det.backbones.base import Backbone
from xvit_det.errors import InputError
from xvit_det.functional import upcast
from xvit_det.mixers import TokenMixer, left_over, start_from, token_mixers

STARTS = ('teacher', 'random')
# Errors may fall from hundreds to hundredths: Adam's usual average over 1000 steps would remember the first gradients.
OPTIMIZER = dict(type='AdamW', lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)


class Linearization(BaseModel):
    """Trains the token mixers of a backbone, and nothing else, to give the outputs of another backbone's.

    Args:
        teacher: The trained backbone. It stays as it is, in evaluation mode and without gradients.
        student: The same backbone with another mixer. It gets all other weights from the teacher.
        start: What the student's mixers start from: ``'teacher'``: the teacher's weights where they have a counterpart,
            see :func:`xvit_det.mixers.start_from`; ``'random'``: the weights that they have.
        block_steps: Training steps block by block; in those that follow, the student's maps are trained. ``None``: all.
        data_preprocessor: mmengine's: from a data loader's batch to images.

    Raises:
        InputError: A backbone is fused, the two differ in more than their mixers, or there is nothing to train.
    """

    steps: Tensor

    def __init__(
        self,
        teacher: Backbone,
        student: Backbone,
        start: str = 'teacher',
        block_steps: int | None = None,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        if start not in STARTS:
            raise InputError(f'start {start!r} is not one of {", ".join(STARTS)}')
        self.teacher = teacher.requires_grad_(False)
        self.student = student.requires_grad_(False)
        self.student.frozen_stages = -1  # a frozen block's mixer is replaced like any other
        self.block_steps = block_steps
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))
        take_weights(student, teacher, start)
        self._pairs = _pair(teacher, student)
        for _, new in self._pairs.values():
            new.requires_grad_(True)
        if not any(parameter.requires_grad for parameter in student.parameters()):
            raise InputError(f'the mixer {type(new).__name__} has no weights to train')

    def init_weights(self) -> None:
        """Nothing: both backbones have their weights, which a teacher's ``init_cfg`` would replace."""

    def train(self, mode: bool = True) -> 'Linearization':
        """Set the mode of the new mixers; all else stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        self.student.eval()
        for _, new in self._pairs.values():
            new.train(mode)
        return self

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'loss') -> Any:
        """Errors to minimise, or the student's outputs.

        Args:
            inputs: Images (B, C, H, W).
            data_samples: Not used: nothing here needs a label.
            mode: ``'loss'``, a training step; or ``'tensor'``.

        Returns:
            The mean error under ``'loss'`` and each block's or map's; or what the student returns.
        """
        if mode == 'tensor':
            return self.student(inputs)
        by_block = self.block_steps is None or self.steps < self.block_steps
        self.steps += 1
        errors = self.block_errors(inputs) if by_block else self.map_errors(inputs)
        return dict(loss=torch.stack([*errors.values()]).mean()) | {name: e.detach() for name, e in errors.items()}

    def block_errors(self, images: Tensor) -> dict[str, Tensor]:
        """The :func:`relative_error` of each new mixer at the tokens that the old one gets, as ``'blocks.0'``.

        Args:
            images: (B, C, H, W).
        """
        errors = {}

        def compare(name: str, new: TokenMixer, old: TokenMixer, args: tuple, kwargs: dict, output: Tensor) -> None:
            with torch.enable_grad():
                errors[name] = relative_error(new(*args, **kwargs), output, _valid(*args, **kwargs))

        with ExitStack() as hooks, torch.no_grad():
            for name, (old, new) in self._pairs.items():
                hook = partial(compare, name, new)
                hooks.enter_context(old.register_forward_hook(hook, with_kwargs=True))
            self.teacher(images)
        return errors

    def map_errors(self, images: Tensor) -> dict[str, Tensor]:
        """The :func:`relative_error` of the tokens of each block that the backbone's output reads, as ``'maps.3'``.

        Args:
            images: (B, C, H, W).
        """
        with torch.no_grad():
            targets = _taps(self.teacher, images)
        outputs = _taps(self.student, images)
        return {f'maps.{i}': relative_error(outputs[i][0], target, valid) for i, (target, valid) in targets.items()}


def relative_error(output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean squared error over the target's variance: 0 for the target, 1 for its mean over the tokens.

    Args:
        output: Tokens (B, N, C).
        target: Tokens (B, N, C).
        valid: (B, N), false at padding, which does not count. ``None``: all tokens are valid.

    Returns:
        A number, in float32 or wider.
    """
    chosen = output.new_ones(output.shape[:2], dtype=torch.bool) if valid is None else valid.bool()
    output, target = upcast(output)[chosen], upcast(target)[chosen]  # (B, N, C) -> (n, C)
    variance = target.var(dim=0, correction=0).mean()
    return (output - target).square().mean() / (variance + 1e-12)


@torch.no_grad()
def take_weights(student: Backbone, teacher: Backbone, start: str = 'teacher') -> None:
    """Give a backbone the weights of another that differs in its mixers only.

    Args:
        student: Changed in place.
        teacher: Where the weights are from.
        start: As for :class:`Linearization`.

    Raises:
        InputError: They differ in more than their mixers.
    """
    pairs = _pair(teacher, student)
    inside = tuple(f'{name}.' for name, module in student.named_modules() if isinstance(module, TokenMixer))
    given, own = (
        {name: w for name, w in model.state_dict().items() if not name.startswith(inside)}
        for model in (teacher, student)
    )
    other = {name for name in given.keys() | own.keys() if name not in own or name not in given}
    other |= {name for name in given.keys() & own.keys() if given[name].shape != own[name].shape}
    if other:
        raise InputError(
            f'teacher and student differ in more than their mixers: {len(other)} weights, such as {min(other)}'
        )
    student.load_state_dict(given, strict=False)
    if start == 'random':
        return
    for old, new in pairs.values():
        taken = start_from(new, old)
    anew = [name for name in new.state_dict() if name not in taken]
    left = left_over(old, taken)
    print_log(
        f"{type(new).__name__} starts from the {type(old).__name__}'s weights: {', '.join(taken) or 'none'}; "
        f'others: {", ".join(anew) or "none"}; left over: {", ".join(left) or "none"}',
        logger='current',
    )


def find_mixers(backbone: Backbone) -> dict[str, TokenMixer]:
    """The token mixers of a backbone by the name of their block, such as ``'blocks.0'``."""
    return {name.rpartition('.')[0]: mixer for name, mixer in token_mixers(backbone).items()}


def _pair(teacher: Backbone, student: Backbone) -> Mapping[str, tuple[TokenMixer, TokenMixer]]:
    for model in (teacher, student):
        if model.is_fused:
            raise InputError(f'this {type(model).__name__} is fused: its mixers can no longer be replaced')
    old, new = find_mixers(teacher), find_mixers(student)
    if old.keys() != new.keys():
        raise InputError(f'the teacher has mixers in {", ".join(old)}, the student in {", ".join(new)}')
    return {name: (old[name], new[name]) for name in old}


def _valid(x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor | None:
    """The mask among the arguments of a mixer."""
    return valid


def _taps(backbone: Backbone, images: Tensor) -> dict[int, tuple[Tensor, Tensor | None]]:
    """Tokens (B, N, C) after each block that the output reads, and their mask."""
    taps: dict[int, tuple[Tensor, Tensor | None]] = {}

    def keep(index: int, block: nn.Module, args: tuple, output: Tensor) -> None:
        taps[index] = output, args[2] if len(args) > 2 else None  # X-ViT's blocks: tokens, size, mask

    with ExitStack() as hooks:
        for index in backbone.out_indices:
            block = backbone.get_submodule(f'blocks.{index}')
            hooks.enter_context(block.register_forward_hook(partial(keep, index)))
        backbone(images)
    return taps

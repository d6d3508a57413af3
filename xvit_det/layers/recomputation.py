"""Activation checkpointing that updates the model exactly like a plain run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import checkpoint as torch_checkpoint

from xvit_det.functional import not_compiled
from xvit_det.mixers import TokenMixer


@contextmanager
def _without_side_effects(module: nn.Module) -> Iterator[None]:
    """Leave BatchNorm's running statistics and the mixers' state unchanged."""
    norms: list[Any] = [
        m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Momentum 0 leaves the running statistics as they are. Not tracking them at all would change what autograd
        # saves, which the recomputation must match.
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        with ExitStack() as mixers:
            for mixer in module.modules():
                if isinstance(mixer, TokenMixer):
                    mixers.enter_context(mixer.recomputing())
            yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


@not_compiled  # Dynamo cannot trace the context below; the rest of the model still compiles
def checkpoint(module: nn.Module, *args: Any) -> Any:
    """``module(*args)``, with activations recomputed in the backward pass instead of stored.

    The recomputation draws the same random numbers, and BatchNorm's running statistics are updated once, not twice as
    with a bare ``torch.utils.checkpoint``.
    """
    return torch_checkpoint.checkpoint(
        module,
        *args,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _without_side_effects(module)),
    )

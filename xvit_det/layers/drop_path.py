"""Stochastic depth (arXiv 1603.09382)."""

from numbers import Real

from torch import Tensor, nn

from xvit_det.errors import InputError


def check_rate(rate: object) -> None:
    """Raise an ``InputError`` unless it is a number in [0, 1)."""
    if not (isinstance(rate, Real) and 0 <= float(rate) < 1):
        raise InputError(f'drop_path_rate={rate!r} is not in [0, 1)')


class DropPath(nn.Module):
    """Drops the residual branch of a random subset of images in training, and scales up the others.

    Args:
        rate: Probability of dropping, in [0, 1).

    Raises:
        InputError: ``rate`` is outside [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        check_rate(rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(keep) / keep
        return x * mask

    def fold(self) -> nn.Module:
        """Inference never drops a branch."""
        return nn.Identity()

    def extra_repr(self) -> str:
        return f'rate={self.rate}'

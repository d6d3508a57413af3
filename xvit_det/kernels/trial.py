"""A trial run of the Triton kernels: they must compile, run and agree with PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from xvit_det.kernels.lpi import local_patch_interaction
from xvit_det.kernels.xnorm import xnorm_attention

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # relative to the largest value


@torch.no_grad()
def run(device: str) -> None:
    """Compare every kernel with PyTorch on a few tokens.

    Raises:
        RuntimeError: A result is wrong. A broken tool chain may raise anything.
    """
    random = torch.Generator(device).manual_seed(0)  # leaves the global random state alone
    with torch.autocast(torch.device(device).type, enabled=False):
        for dtype, tolerance in TOLERANCES.items():
            q, k, v = torch.randn(3, 1, 2, 150, 24, generator=random, device=device).to(dtype)
            _compare('XNorm attention', xnorm_attention(q, k, v, None, -2, None), _xnorm(q, k, v), tolerance)
            x, *channels = torch.randn(5, 1, 150, 40, generator=random, device=device).to(dtype)
            weight1, weight2 = torch.randn(2, 40, 1, 3, 3, generator=random, device=device).to(dtype)
            bias1, scale, shift, bias2 = (each[0, 0] for each in channels)
            parameters = weight1, bias1, scale, shift, weight2, bias2
            lpi = local_patch_interaction(x, (10, 15), None, *parameters)
            _compare('local patch interaction', lpi, _lpi(x, (10, 15), *parameters), tolerance)


def _compare(name: str, out: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (out - expected).abs().max() / expected.abs().max()
    if not error <= tolerance:  # also catches NaN
        raise RuntimeError(f'{name} in {out.dtype} is off by {error:.1g}')


def _xnorm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Equation 4, in float64, whose precision no backend setting reduces."""
    q, k, v = q.double(), k.double(), v.double()
    return F.normalize(q, dim=-1) @ F.normalize(k.mT @ v, dim=-2)


def _lpi(x: Tensor, size: tuple[int, int], *parameters: Tensor) -> Tensor:
    """Local patch interaction, in float64 as well."""
    weight1, bias1, scale, shift, weight2, bias2 = (parameter.double() for parameter in parameters)
    x = x.double().mT.unflatten(2, size)  # (B, N, C) -> (B, C, h, w)
    x = F.gelu(F.conv2d(x, weight1, bias1, padding=1, groups=len(bias1)))
    x = x * scale[:, None, None] + shift[:, None, None]
    return F.conv2d(x, weight2, bias2, padding=1, groups=len(bias2)).flatten(2).mT  # (B, C, h, w) -> (B, N, C)

"""Is bfloat16 faster than float32 on the CPU at hand? A trial tells.

A CPU's flags do not. Of those with AVX-512's bfloat16 products some compute them at twice the speed of float32, others
at half of it, and a CPU without them emulates them at a tenth.
"""

import functools

import torch
import torch.nn.functional as F

from xvit_det.kernels.choice import measured_speedup

# The trial: a convolution of a detector's head, and a linear layer. Noise must not decide in bfloat16's favour.
SIDE, CHANNELS, MARGIN = 32, 128, 1.1


def is_faster() -> bool:
    """Whether convolutions and linear layers gain from bfloat16 on this CPU, with PyTorch's present threads."""
    return speedup(torch.get_num_threads()) > MARGIN


@functools.cache
@torch.no_grad()
def speedup(threads: int) -> float:
    """How many times as fast the trial is in bfloat16 as in float32.

    Takes some tenths of a second, once in a process.

    Args:
        threads: How many PyTorch computes with now; another number is another trial.
    """
    random = torch.Generator().manual_seed(0)  # leaves the global random state alone
    x = torch.randn(1, CHANNELS, SIDE, SIDE, generator=random).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=random).contiguous(memory_format=torch.channels_last)

    given = {dtype: (x.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}

    def layers(dtype: torch.dtype) -> None:
        inputs, weights = given[dtype]
        maps = F.conv2d(inputs, weights, padding=1)
        tokens = maps.permute(0, 2, 3, 1).flatten(0, 2)  # (1, C, h, w) -> (h·w, C)
        F.linear(tokens, weights.flatten(1)[:, :CHANNELS].contiguous())

    with torch.autocast('cpu', enabled=False):
        return measured_speedup(lambda: layers(torch.float32), lambda: layers(torch.bfloat16))

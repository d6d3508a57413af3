"""The smallest kernel, to see whether Triton works on this machine."""

import torch
import triton
import triton.language as tl


@triton.jit
def _one(out):
    tl.store(out, 1.0)


def run(device: str) -> None:
    """Compile and launch it; raises whatever goes wrong."""
    _one[(1,)](torch.empty(1, device=device))

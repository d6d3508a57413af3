"""Point-wise spatial attention: masks around each position as attention among all positions (PSANet, ECCV 2018)."""

import torch
from torch import Tensor

COLLECT = 0  # psa_type; 1 is distribute


def _attention(mask: Tensor, psa_type: int, size: tuple[int, int], half: tuple[int, int]) -> Tensor:
    """Mask (B, h_mask·w_mask, H, W) -> (B, H·W, H, W).

    Collect: entry (y·W + x, h, w) is what the mask at (h, w) says of position (y, x), which lies at (y - h, x - w) from
    its centre; zero outside of the mask. Distribute: both positions swapped.
    """
    B, _, H, W = mask.shape
    y, x = (torch.arange(n, device=mask.device) for n in (H, W))
    row, column = (at[:, None] - at + middle for at, middle in zip((y, x), half, strict=True))  # (y, h) and (x, w)
    inside = [(i >= 0) & (i < n) for i, n in zip((row, column), size, strict=True)]
    row, column = (i.clamp(0, n - 1) for i, n in zip((row, column), size, strict=True))
    mask = mask.unflatten(1, size)  # (B, h_mask·w_mask, H, W) -> (B, h_mask, w_mask, H, W)
    out = mask[:, row[:, None, :, None], column[None, :, None, :], y[:, None], x]  # (B, y, x, h, w)
    out = out * (inside[0][:, None, :, None] & inside[1][None, :, None, :])
    out = out.reshape(B, H * W, H * W)  # (B, y, x, h, w) -> (B, y·x, h·w)
    return (out if psa_type == COLLECT else out.mT).reshape(B, H * W, H, W)


def psamask_forward(
    input: Tensor,
    output: Tensor,
    *,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    output.copy_(_attention(input, psa_type, (h_mask, w_mask), (half_h_mask, half_w_mask)))


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    *,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    mask = torch.zeros_like(grad_input).requires_grad_()  # only its shape enters its gradient
    with torch.enable_grad():
        output = _attention(mask, psa_type, (h_mask, w_mask), (half_h_mask, half_w_mask))
    grad_input.copy_(torch.autograd.grad(output, mask, grad_output)[0])

"""X-ViT's block for inference: everything that is fixed after training is folded into its weights."""

import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det import kernels
from xvit_det.backbones.xvit import XViTBlock
from xvit_det.deploy.fold import fold_behind, fold_layer_norm
from xvit_det.deploy.linear import linear, linear_add
from xvit_det.functional import gelu_, map_to_tokens, merge_heads, split_parts, tokens_to_map
from xvit_det.layers import Affine, LocalPatchInteraction
from xvit_det.layers.norm import is_constant, scale_and_shift
from xvit_det.mixers.xnorm import kernel_serves, unit_kv, unit_vectors, xnorm_attention


class FusedLPI(nn.Module):
    """Local patch interaction with its BatchNorm, ``s · x + t``, and an affine folded into the second convolution.

    The scale goes into the taps, and the shift into the bias, as if all taps saw it. At the border they do not: there
    zeros take the place of ``s · x + t``, so what the taps outside contribute to the bias is taken off again. The
    Triton kernel, which makes no pass of its own for the norm, takes the norm and the second convolution unfolded.

    Args:
        lpi: What to fold; its norm is a BatchNorm with running statistics. It is used up.
        affine: What follows it.
    """

    def __init__(self, lpi: LocalPatchInteraction, affine: Affine) -> None:
        super().__init__()
        self.conv1, self.conv2 = lpi.conv1, lpi.conv2
        scale, shift = scale_and_shift(lpi.norm)
        fold_behind(self.conv2, affine.alpha, affine.beta)
        unfolded = dict(scale=scale, shift=shift, weight2=self.conv2.weight.clone(), bias2=self.conv2.bias.clone())
        for name, value in unfolded.items():
            self.register_buffer(name, value.to(self.conv2.weight.dtype))
        taps = self.conv2.weight.double()[:, 0] * shift[:, None, None]  # (C, 3, 3): what each adds to the bias
        self.conv2.weight.mul_(scale[:, None, None, None])
        self.conv2.bias.add_(taps.sum((1, 2)))
        taps = taps.permute(1, 2, 0).to(self.conv2.weight.dtype).contiguous()  # -> (3, 3, C)
        self.register_buffer('taps', taps)
        self.register_buffer('rows', taps[::2].sum(1, keepdim=True))  # (2, 1, C): of the upper taps and of the lower
        self.register_buffer('columns', taps[:, ::2].sum(0))  # (2, C): of the left taps and of the right

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """As :class:`LocalPatchInteraction`."""
        if kernels.usable(x, self.conv1.weight):
            from xvit_det.kernels.lpi import local_patch_interaction

            return local_patch_interaction(
                x, size, valid, self.conv1.weight, self.conv1.bias, self.scale, self.shift, self.weight2, self.bias2
            )
        h, w = size
        mask = None if valid is None else valid[:, None].unflatten(2, size).to(x.dtype)  # (B, N) -> (B, 1, h, w)
        if mask is None and min(h, w) == 1:
            mask = x.new_ones(1, 1, h, w)
        x = tokens_to_map(x, size)
        if mask is not None:
            x = gelu_(self.conv1(x.mul_(mask))).mul_(mask)
            # The taps on the mask add what they contribute, the bias takes off what all would.
            taps = self.taps.permute(2, 0, 1)[:, None]  # (3, 3, C) -> (C, 1, 3, 3)
            return map_to_tokens(self.conv2(x).add_(F.conv2d(mask, taps, -taps.sum((1, 2, 3)), padding=1)))
        x = self.conv2(gelu_(self.conv1(x))).permute(0, 2, 3, 1)  # (B, C, h, w) -> (B, h, w, C), a view
        # First and last row, first and last column; a corner's tap is in both and counts once.
        x[:, :: h - 1].sub_(self.rows)
        x[:, :, :: w - 1].sub_(self.columns)
        x[:, :: h - 1, :: w - 1].add_(self.taps[::2, ::2])
        return x.flatten(1, 2)


class FusedXViTBlock(nn.Module):
    """An :class:`xvit_det.backbones.xvit.XViTBlock` for inference: its outputs, with fewer and cheaper steps.

    Norms' gains, affines and gammas are in the weights; the small matrix ``kᵀ v`` of every head is multiplied with the
    output projection rather than with every query; and the branches are summed into the residual stream in place.

    Args:
        block: What to fold. It is used up.
    """

    def __init__(self, block: XViTBlock) -> None:
        super().__init__()
        attn, lpi, mlp = block.attn, block.lpi, block.mlp
        self.num_heads, self.kv_axis = attn.num_heads, attn.kv_axis
        self.norm1 = fold_layer_norm(block.norm1, attn.qkv)
        fold_behind(attn.proj, block.affine1.alpha, block.affine1.beta)
        self.qkv, self.proj = attn.qkv, attn.proj
        self.norm2 = block.norm2  # its shift cannot be folded: zeros, not shifts, surround the map
        if is_constant(lpi.norm):
            self.lpi = FusedLPI(lpi, block.affine2)
        else:
            self.lpi = lpi
            fold_behind(lpi.conv2, block.affine2.alpha, block.affine2.beta)
        self.norm3 = fold_layer_norm(block.norm3, mlp[0])
        fold_behind(mlp[2], block.affine3.alpha, block.affine3.beta)
        self.fc1, self.fc2 = mlp[0], mlp[2]

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """As :class:`XViTBlock`."""
        x = linear_add(x, *self._attention(self.norm1(x), valid), self.proj.bias)
        x = _add(x, self.lpi(self.norm2(x), size, valid))
        hidden = linear(self.norm3(x), self.fc1.weight, self.fc1.bias, act='gelu')
        return linear_add(x, hidden, self.fc2.weight, self.fc2.bias)

    def _attention(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Unit queries (B, N, e) and the weight (B, C, e) of the linear layer that they go through.

        Where the kernel does all of the attention, at the cost of the norms, it is its output and the plain weight.
        """
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3e) -> 3 x (B, H, N, c)
        if kernel_serves(q, k, v):
            return merge_heads(xnorm_attention(q, k, v, None, self.kv_axis, valid)), self.proj.weight
        kv = unit_kv(k, v, self.kv_axis, valid)  # (B, H, c, c)
        proj = self.proj.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)  # (C, e) -> (H, c, C)
        weight = (kv @ proj.to(kv.dtype)).flatten(1, 2).mT  # (B, H, c, C) -> (B, e, C) -> (B, C, e)
        return unit_vectors(q.transpose(1, 2), dim=-1).flatten(2), weight  # (B, N, H, c) -> (B, N, e)


def _add(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``, written over ``y`` where it is of the same dtype: ``x`` may be kept for a gradient."""
    return y.add_(x) if x.dtype == y.dtype else x + y

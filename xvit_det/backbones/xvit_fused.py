"""X-ViT's block for inference, with everything that is constant after training folded into its weights."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from xvit_det.folding import fold_after, fold_layer_norm
from xvit_det.functional import merge_heads, split_parts
from xvit_det.kernels.onednn import linear_add
from xvit_det.layers.lpi import FusedLPI
from xvit_det.layers.norm import is_constant
from xvit_det.mixers.xnorm import can_use_kernel, unit_kv, unit_vectors, xnorm_attention

if TYPE_CHECKING:
    from xvit_det.backbones.xvit import XViTBlock


class FusedXViTBlock(nn.Module):
    """Computes what an :class:`xvit_det.backbones.xvit.XViTBlock` does, in fewer and cheaper steps.

    LayerNorm weights, affines and gammas are folded into the linear layers; the small matrix ``kᵀ v`` of every head is
    multiplied with the output projection instead of with every query; and the branches are added to the residual stream
    in place.

    Args:
        block: The block to fold, whose parts are folded already. It must not be used afterwards.
    """

    def __init__(self, block: 'XViTBlock') -> None:
        super().__init__()
        attn, lpi = block.attn, block.lpi
        mlp: Any = block.mlp  # mypy takes the parts of an nn.Sequential for plain modules
        self.num_heads, self.kv_axis = attn.num_heads, attn.kv_axis
        self.norm1 = fold_layer_norm(block.norm1, attn.qkv)
        fold_after(attn.proj, block.affine1.alpha, block.affine1.beta)
        self.qkv, self.proj = attn.qkv, attn.proj
        self.norm2 = block.norm2  # its bias cannot be folded: the map is padded with zeros, not with the bias
        fold_after(lpi.conv2, block.affine2.alpha, block.affine2.beta)
        self.lpi = FusedLPI(lpi) if is_constant(lpi.norm) else lpi
        self.norm3 = fold_layer_norm(block.norm3, mlp[0])
        fold_after(mlp[2], block.affine3.alpha, block.affine3.beta)
        self.fc1, self.fc2 = mlp[0], mlp[2]

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """As :class:`xvit_det.backbones.xvit.XViTBlock`."""
        x = linear_add(x, *self._attention(self.norm1(x), valid), self.proj.bias)
        x = _add(x, self.lpi(self.norm2(x), size, valid))
        return linear_add(x, self.fc1(self.norm3(x), act='gelu'), self.fc2.weight, self.fc2.bias)

    def _attention(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Normalized queries (B, N, e) and the weight (B, C, e) of the linear layer to apply to them.

        Where the Triton kernel computes all of the attention, its output and the weight (C, e) of the projection.
        """
        q, k, v = split_parts(self.qkv(x), self.num_heads, 3)  # (B, N, 3e) -> 3 x (B, H, N, c)
        if can_use_kernel(q, k, v):
            return merge_heads(xnorm_attention(q, k, v, None, self.kv_axis, valid)), self.proj.weight
        kv = unit_kv(k, v, self.kv_axis, valid)  # (B, H, c, c)
        proj = self.proj.weight.unflatten(1, (self.num_heads, -1)).permute(1, 2, 0)  # (C, e) -> (H, c, C)
        weight = (kv @ proj.to(kv.dtype)).flatten(1, 2).mT  # (B, H, c, C) -> (B, e, C) -> (B, C, e)
        return unit_vectors(q.transpose(1, 2), dim=-1).flatten(2), weight  # (B, N, H, c) -> (B, N, e)


def _add(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``, written over ``y`` if both have the same dtype: autograd may need ``x``."""
    return y.add_(x) if x.dtype == y.dtype else x + y

"""X-ViT's block for inference, with everything that is constant after training folded into its weights."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from xvit_det.folding import fold_after, fold_layer_norm
from xvit_det.kernels.onednn import linear_add, mlp_add
from xvit_det.layers.lpi import FusedLPI
from xvit_det.layers.norm import is_constant
from xvit_det.mixers.base import MatrixMixer

if TYPE_CHECKING:
    from xvit_det.backbones.xvit import XViTBlock


class FusedXViTBlock(nn.Module):
    """Computes what an :class:`xvit_det.backbones.xvit.XViTBlock` does, in fewer and cheaper steps.

    LayerNorm weights, affines and gammas are folded into the linear layers; the small matrix of every head is
    multiplied with the output projection instead of with every token; and the branches are added to the residual stream
    in place.
    A mixer that is not a :class:`xvit_det.mixers.base.MatrixMixer` keeps the norm and the affine around it.

    Args:
        block: The block to fold, whose parts are folded already. It must not be used afterwards.
    """

    def __init__(self, block: 'XViTBlock') -> None:
        super().__init__()
        attn, lpi = block.attn, block.lpi
        mlp: Any = block.mlp  # mypy takes the parts of an nn.Sequential for plain modules
        self.attn = attn
        if isinstance(attn, MatrixMixer):
            self.norm1 = fold_layer_norm(block.norm1, attn.qkv)
            fold_after(attn.proj, block.affine1.alpha, block.affine1.beta)
        else:
            self.norm1, self.affine1 = block.norm1, block.affine1
        self.norm2 = block.norm2  # its bias cannot be folded: the map is padded with zeros, not with the bias
        fold_after(lpi.conv2, block.affine2.alpha, block.affine2.beta)
        self.lpi = FusedLPI(lpi) if is_constant(lpi.norm) else lpi
        self.norm3 = fold_layer_norm(block.norm3, mlp[0])
        fold_after(mlp[2], block.affine3.alpha, block.affine3.beta)
        self.fc1, self.fc2 = mlp[0], mlp[2]

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """As :class:`xvit_det.backbones.xvit.XViTBlock`."""
        if isinstance(self.attn, MatrixMixer):
            x = linear_add(x, *self.attn.product(self.norm1(x), valid), self.attn.proj.bias)
        else:
            x = _add(x, self.affine1(self.attn(self.norm1(x), valid, size)))
        x = _add(x, self.lpi(self.norm2(x), size, valid))
        return mlp_add(x, self.norm3, self.fc1, self.fc2)


def _add(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``, written over ``y`` if both have the same dtype: autograd may need ``x``."""
    return y.add_(x) if x.dtype == y.dtype else x + y

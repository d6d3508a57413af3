"""No mixing at all: what a model is worth without attention.

"MetaFormer Is Actually What You Need for Vision" (arXiv 2111.11418), the identity mapping of its ablation.
"""

from torch import Tensor

from xvit_det.mixers.base import TokenMixer


class IdentityMixer(TokenMixer):
    """Returns the tokens as they are, so that only a block's other parts exchange information, if any does.

    Args:
        embed_dims: Width C of the tokens.
    """

    def forward(self, x: Tensor, valid: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        return x

"""Local patch interaction, from XCiT (arXiv 2106.09681), Section 3.3."""

from torch import Tensor, nn

from xvit_det import kernels
from xvit_det.functional import map_to_tokens, tokens_to_map
from xvit_det.layers.gelu import InplaceGELU
from xvit_det.layers.norm import build_norm, is_constant, scale_and_shift


class LocalPatchInteraction(nn.Module):
    """Depthwise 3x3, GELU, norm, depthwise 3x3: exchanges information between neighbouring patches.

    Args:
        embed_dims: Width C of the tokens.
        norm_cfg: The norm between the convolutions, see :func:`build_norm`.
    """

    def __init__(self, embed_dims: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.act = InplaceGELU()
        self.norm = build_norm(norm_cfg, embed_dims)
        self.conv2 = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """Convolve the map that the tokens form.

        Args:
            x: Tokens (B, N, C). Zeroed in place where ``valid`` is false: pass a tensor that nothing else uses.
            size: (h, w) with h·w = N.
            valid: (B, N) bool; false tokens are zero for the convolutions, like the area outside the map.

        Returns:
            Tokens (B, N, C).
        """
        if not self.norm.training and is_constant(self.norm) and kernels.usable(x, *self.parameters()):
            from xvit_det.kernels.lpi import local_patch_interaction

            scale, shift = scale_and_shift(self.norm)
            conv1, conv2 = self.conv1, self.conv2
            return local_patch_interaction(
                x, size, valid, conv1.weight, conv1.bias, scale, shift, conv2.weight, conv2.bias
            )
        mask = None if valid is None else valid[:, None].unflatten(2, size)  # (B, N) -> (B, 1, h, w)
        x = tokens_to_map(x, size)
        x = self.conv1(x if mask is None else x.mul_(mask))
        x = self.norm(self.act(x))
        x = self.conv2(x if mask is None else x.mul_(mask))
        return map_to_tokens(x)

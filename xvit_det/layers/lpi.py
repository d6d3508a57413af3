"""Local patch interaction, from XCiT (arXiv 2106.09681), Section 3.3."""

import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det import kernels
from xvit_det.functional import gelu_, map_to_tokens, tokens_to_map
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
            weight1, bias1, weight2, bias2 = (*self.conv1.parameters(), *self.conv2.parameters())
            return local_patch_interaction(x, size, valid, weight1, bias1, scale, shift, weight2, bias2)
        mask = None if valid is None else valid[:, None].unflatten(2, size)  # (B, N) -> (B, 1, h, w)
        x = tokens_to_map(x, size)
        x = self.conv1(x if mask is None else x.mul_(mask))
        x = self.norm(self.act(x))
        x = self.conv2(x if mask is None else x.mul_(mask))
        return map_to_tokens(x)


class FusedLPI(nn.Module):
    """:class:`LocalPatchInteraction` for inference, its BatchNorm ``s · x + t`` folded into the second convolution.

    The scale goes into the weights. The shift goes into the bias, as if the zero padding were ``t`` as well; at the
    border, what the weights over the padding contribute is subtracted again. The Triton kernel takes norm and
    convolution unfolded, as it needs no extra pass for the norm.

    Args:
        lpi: The module to fold; its norm is a BatchNorm with running statistics. It must not be used afterwards.
    """

    scale: Tensor
    shift: Tensor
    weight2: Tensor
    bias2: Tensor
    taps: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, lpi: LocalPatchInteraction) -> None:
        super().__init__()
        self.conv1, self.conv2 = lpi.conv1, lpi.conv2
        assert is_constant(lpi.norm)
        scale, shift = scale_and_shift(lpi.norm)
        weight2, bias2 = self.conv2.parameters()
        unfolded = dict(scale=scale, shift=shift, weight2=weight2.clone(), bias2=bias2.clone())
        for name, value in unfolded.items():
            self.register_buffer(name, value.to(weight2.dtype))
        taps = weight2.double()[:, 0] * shift[:, None, None]  # (C, 3, 3): what each weight adds to the bias
        weight2.mul_(scale[:, None, None, None])
        bias2.add_(taps.sum((1, 2)))
        taps = taps.permute(1, 2, 0).to(weight2.dtype).contiguous()  # -> (3, 3, C)
        self.register_buffer('taps', taps)
        self.register_buffer('rows', taps[::2].sum(1, keepdim=True))  # (2, 1, C): upper and lower row of the kernel
        self.register_buffer('columns', taps[:, ::2].sum(0))  # (2, C): left and right column of the kernel

    def forward(self, x: Tensor, size: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """As :class:`LocalPatchInteraction`."""
        if kernels.usable(x, self.conv1.weight):
            from xvit_det.kernels.lpi import local_patch_interaction

            weight1, bias1 = self.conv1.parameters()
            return local_patch_interaction(
                x, size, valid, weight1, bias1, self.scale, self.shift, self.weight2, self.bias2
            )
        h, w = size
        mask = None if valid is None else valid[:, None].unflatten(2, size).to(x.dtype)  # (B, N) -> (B, 1, h, w)
        if kernels.is_exporting():
            return self._unfolded(x, size, mask)
        if mask is None and min(h, w) == 1:
            mask = x.new_ones(1, 1, h, w)
        x = tokens_to_map(x, size)
        if mask is not None:
            x = gelu_(self.conv1(x.mul_(mask))).mul_(mask)
            # The convolution of the mask adds what the visible weights contribute, its bias subtracts all nine.
            taps = self.taps.permute(2, 0, 1)[:, None]  # (3, 3, C) -> (C, 1, 3, 3)
            return map_to_tokens(self.conv2(x).add_(F.conv2d(mask, taps, -taps.sum((1, 2, 3)), padding=1)))
        x = self.conv2(gelu_(self.conv1(x))).permute(0, 2, 3, 1)  # (B, C, h, w) -> (B, h, w, C), a view
        # First and last row, first and last column; the corner weight is in both and counts once.
        x[:, :: h - 1].sub_(self.rows)
        x[:, :, :: w - 1].sub_(self.columns)
        x[:, :: h - 1, :: w - 1].add_(self.taps[::2, ::2])
        return x.flatten(1, 2)

    def _unfolded(self, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """The same without corrections at the border, which other runtimes would do one by one."""
        inside = 1 if mask is None else mask
        x = F.gelu(self.conv1(tokens_to_map(x, size) * inside))
        x = (x * self.scale[:, None, None] + self.shift[:, None, None]) * inside
        x = F.conv2d(x, self.weight2, self.bias2, padding=1, groups=x.shape[1])
        return map_to_tokens(x)

"""Sizes of :class:`xvit_det.XViT`: those of X-ViT, and those of XCiT, which is the same network with other attention.

X-ViT's paper (arXiv 2109.14382) does not give depth, widths and heads, and no code was released: its rows are the only
configuration our search found that reproduces all 13 published parameter and operation counts. XCiT's are those of its
Table 1 (arXiv 2106.09681) and released code.
"""

from typing import Any

# What an arch of your own need not name: X-ViT's choices.
DEFAULTS: dict[str, Any] = dict(class_block='xvit', tokens_norm=False, ceil_pool=True)


def _xvit(embed_dims: int, depth: int, attn_dims: int, num_heads: int, layer_scale: float) -> dict[str, Any]:
    return dict(
        embed_dims=embed_dims,
        depth=depth,
        attn_dims=attn_dims,
        num_heads=num_heads,
        mlp_ratio=4,
        num_class_layers=2,
        layer_scale=layer_scale,
        **DEFAULTS,
    )


def _xcit(embed_dims: int, depth: int, num_heads: int, layer_scale: float, tokens_norm: bool = True) -> dict[str, Any]:
    arch = _xvit(embed_dims, depth, embed_dims, num_heads, layer_scale)
    return arch | dict(class_block='xcit', tokens_norm=tokens_norm, ceil_pool=False)


XVIT = {
    'tiny': _xvit(192, depth=24, attn_dims=96, num_heads=4, layer_scale=1e-5),
    'small': _xvit(384, depth=12, attn_dims=128, num_heads=8, layer_scale=1.0),
    'medium': _xvit(384, depth=24, attn_dims=128, num_heads=8, layer_scale=1e-5),
    'base': _xvit(512, depth=24, attn_dims=128, num_heads=8, layer_scale=1e-5),
}
XCIT = {
    'nano_12': _xcit(128, depth=12, num_heads=4, layer_scale=1.0, tokens_norm=False),
    'tiny_12': _xcit(192, depth=12, num_heads=4, layer_scale=1.0),
    'tiny_24': _xcit(192, depth=24, num_heads=4, layer_scale=1e-5),
    'small_12': _xcit(384, depth=12, num_heads=8, layer_scale=1.0),
    'small_24': _xcit(384, depth=24, num_heads=8, layer_scale=1e-5),
    'medium_24': _xcit(512, depth=24, num_heads=8, layer_scale=1e-5),
    'large_24': _xcit(768, depth=24, num_heads=16, layer_scale=1e-5),
}

"""Short names of the compared models and their backbone configs. Imports no PyTorch."""

MIXERS = {
    'vit': dict(type='softmax'),
    'vip': dict(type='performer'),
    'vil': dict(type='linformer'),
    'vin': dict(type='nystrom', landmarks=64),
    'fnet': dict(type='fourier'),
}
OURS = {
    **{f'xvit_{arch[0]}': dict(type='XViT', arch=arch) for arch in ('tiny', 'small', 'medium', 'base')},
    **{f'{name}_s': dict(type='ViX', arch='small', mixer=mixer) for name, mixer in MIXERS.items()},
    **{
        f'hybrid_{name}_s': dict(type='ViX', arch='small', mixer=mixer, stem='deep_conv')
        for name, mixer in MIXERS.items()
    },
    'ccn_14': dict(type='CCX', arch='cct_14', mixer=MIXERS['vin']),
    'cvn_13': dict(type='CvX', arch='cvt_13', mixer=MIXERS['vin']),
    'pin_s': dict(type='PiX', arch='small', stem='overlap', patch_size=8, mixer=MIXERS['vin']),
    'levin_256': dict(type='LeViX', arch='levit_256', mixer=MIXERS['vin']),
}


def _xcit(embed_dims: int, depth: int, num_heads: int) -> dict:
    return dict(
        type='XCiT',
        patch_size=16,
        embed_dims=embed_dims,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=4,
        qkv_bias=True,
        layer_scale_init_value=1.0,
        cls_attn_layers=0,
        out_type='featmap',
    )


# mmpretrain's, in their standard architecture.
PEERS = {
    'xcit_t12': _xcit(192, 12, 4),
    'xcit_s12': _xcit(384, 12, 8),
    'xcit_s24': _xcit(384, 24, 8),
    'xcit_m24': _xcit(512, 24, 8),
    **{
        f'deit_{a[0]}': dict(type='VisionTransformer', arch=f'deit-{a}', out_type='featmap')
        for a in ('tiny', 'small', 'base')
    },
    # Maps smaller than a window, which only tiny images have, are padded instead of refused.
    **{f'swin_{a[0]}': dict(type='SwinTransformer', arch=a, pad_small_map=True) for a in ('tiny', 'small', 'base')},
    **{f'resnet{depth}': dict(type='ResNet', depth=depth) for depth in (50, 101)},
}

# The optimizer of detectors and ImageNet classifiers; a config takes it with `optim_wrapper = _base_.adamw`.
adamw = dict(
    type='AutoAmpOptimWrapper',  # mixed precision on a GPU, fp32 on a CPU
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    # no weight decay on norms, biases, affines (flat), XNorm's gammas, XCA's temperatures,
    # the class token and position tables
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={name: dict(decay_mult=0.0) for name in ('gamma', 'temperature', 'cls_token', 'pos_embed.table')},
    ),
)

# The optimizer of every X-ViT; a config takes it with `optim_wrapper = _base_.adamw`.
adamw = dict(
    type='AutoAmpOptimWrapper',  # mixed precision on a GPU, fp32 on a CPU
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(  # no weight decay on norms, biases, affines (flat), XNorm's gammas and the class token
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys=dict(gamma=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)),
    ),
)

# DeiT (arXiv 2012.12877): a ViX with softmax attention. The recipe is X-ViT's, which follows DeiT's.
_base_ = 'vin_s_in1k.py'

model = dict(backbone=dict(mixer=dict(_delete_=True, type='softmax', qkv_bias=True), norm_eps=1e-6))
published = dict(top1=79.9, source="DeiT's authors, for their weights (not measured here)")

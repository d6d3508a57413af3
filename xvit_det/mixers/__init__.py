"""Token mixers, one file per paper."""

from xvit_det.mixers.base import TokenMixer
from xvit_det.mixers.xnorm import XNormAttention, xnorm_attention

__all__ = ['TokenMixer', 'XNormAttention', 'xnorm_attention']

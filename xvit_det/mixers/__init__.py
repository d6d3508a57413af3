"""Token mixers, one file per paper."""

from xvit_det.mixers.base import TokenMixer
from xvit_det.mixers.build import build_mixer, inherited_options, token_mixers
from xvit_det.mixers.fourier import FourierMixer
from xvit_det.mixers.identity import IdentityMixer
from xvit_det.mixers.linformer import LinformerAttention
from xvit_det.mixers.mlp import MLPMixer
from xvit_det.mixers.nystrom import NystromAttention
from xvit_det.mixers.performer import PerformerAttention
from xvit_det.mixers.rotary import RotaryPosition
from xvit_det.mixers.softmax import SoftmaxAttention
from xvit_det.mixers.start import left_over, start_from
from xvit_det.mixers.xca import CrossCovarianceAttention
from xvit_det.mixers.xnorm import XNormAttention, xnorm_attention

# The choices of ``mixer=``. A new mixer takes one file and one line here.
MIXERS: dict[str, type[TokenMixer]] = {
    'softmax': SoftmaxAttention,
    'performer': PerformerAttention,
    'linformer': LinformerAttention,
    'nystrom': NystromAttention,
    'fourier': FourierMixer,
    'mlp': MLPMixer,
    'xnorm': XNormAttention,
    'xca': CrossCovarianceAttention,
    'identity': IdentityMixer,
}

__all__ = [
    'MIXERS',
    'CrossCovarianceAttention',
    'FourierMixer',
    'IdentityMixer',
    'LinformerAttention',
    'MLPMixer',
    'NystromAttention',
    'PerformerAttention',
    'RotaryPosition',
    'SoftmaxAttention',
    'TokenMixer',
    'XNormAttention',
    'build_mixer',
    'inherited_options',
    'left_over',
    'start_from',
    'token_mixers',
    'xnorm_attention',
]

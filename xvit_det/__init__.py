"""Linear-attention vision backbones for OpenMMLab; importing the package registers them in MMEngine's registries."""

from xvit_det import compat as compat  # first: it says what is missing, and fills what mmcv lacks
from xvit_det import engine as engine  # registers the training parts
from xvit_det.analysis import count_macs, count_parameters
from xvit_det.backbones import CCX, CvX, LeViX, PiX, ViX, XViT
from xvit_det.errors import InputError
from xvit_det.hub import create_model, list_models

__all__ = [
    'CCX',
    'CvX',
    'InputError',
    'LeViX',
    'PiX',
    'ViX',
    'XViT',
    'count_macs',
    'count_parameters',
    'create_model',
    'list_models',
]
__version__ = '0.1.0'

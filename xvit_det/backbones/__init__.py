"""Backbones: what a config names in ``type=``."""

from xvit_det.backbones.base import Backbone
from xvit_det.backbones.ccx import CCX
from xvit_det.backbones.cvx import CvX
from xvit_det.backbones.levix import LeViX
from xvit_det.backbones.module import HAS_MMENGINE
from xvit_det.backbones.pix import PiX
from xvit_det.backbones.pretrained import load_pretrained
from xvit_det.backbones.vix import ViX
from xvit_det.backbones.xvit import XViT

__all__ = ['CCX', 'Backbone', 'CvX', 'LeViX', 'PiX', 'ViX', 'XViT', 'load_pretrained']

if HAS_MMENGINE:
    from mmengine.registry import MODELS

    for _backbone in (CCX, CvX, LeViX, PiX, ViX, XViT):
        MODELS.register_module(module=_backbone)

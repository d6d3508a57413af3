"""Backbones: what a config names in ``type=``."""

from xvit_det.backbones.base import Backbone
from xvit_det.backbones.pretrained import load_pretrained
from xvit_det.backbones.xvit import XViT

__all__ = ['Backbone', 'XViT', 'load_pretrained']

"""Preparing trained models for inference."""

from xvit_det.deploy.fuse import fuse

__all__ = ['fuse']

"""Models made ready for use: everything that is fixed after training is folded away."""

from xvit_det.deploy.fuse import fuse

__all__ = ['fuse']

"""What OpenMMLab needs to run on a current PyTorch without a compiler: importing this makes it findable."""

from xvit_det.compat import startup as startup

"""What OpenMMLab needs to run on a current PyTorch without a compiler: importing this installs it."""

import importlib.util

from xvit_det.compat.checkpoint import allow_checkpoint_types
from xvit_det.compat.finder import StandInFinder

__all__ = ['install']


def install() -> None:
    """Make the stand-in modules findable and allow the types in OpenMMLab's checkpoints; further calls do nothing.

    Neither mmcv nor torchvision is imported here, and whatever is installed takes precedence over a stand-in.

    Raises:
        ModuleNotFoundError: mmengine is not installed.
    """
    if importlib.util.find_spec('mmengine') is None:
        raise ModuleNotFoundError(
            "xvit_det needs mmengine: install one OpenMMLab family with `pip install 'xvit_det[onedl]'` or "
            "`pip install 'xvit_det[openmmlab]'`, never both.",
            name='mmengine',
        )
    StandInFinder.install()
    allow_checkpoint_types()


install()

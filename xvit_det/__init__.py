"""Linear-attention vision backbones for PyTorch and OpenMMLab; importing the package registers them in MMEngine.

Public names are imported on first use, and the registration takes place once MMEngine is imported, before or after this
package: ``import xvit_det`` by itself does not load PyTorch, and neither does the command line's help. The backbones
need PyTorch alone; whole models and the commands that train them need OpenMMLab.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xvit_det import compat as compat
from xvit_det.compat.after_import import when_imported
from xvit_det.compat.hue import wrap_hue
from xvit_det.compat.multimodal import leave_out_multimodal
from xvit_det.registration import register

if TYPE_CHECKING:
    from xvit_det.analysis import count_macs, count_parameters
    from xvit_det.backbones import CCX, CvX, LeViX, PiX, ViX, XViT
    from xvit_det.errors import InputError
    from xvit_det.hub import create_model, find_config, list_models
    from xvit_det.inference import Prediction, load

__all__ = [
    'CCX',
    'CvX',
    'InputError',
    'LeViX',
    'PiX',
    'Prediction',
    'ViX',
    'XViT',
    'count_macs',
    'count_parameters',
    'create_model',
    'find_config',
    'list_models',
    'load',
]
__version__ = '0.1.0'

_ROOMS = {
    'analysis': ('count_macs', 'count_parameters'),
    'backbones': ('CCX', 'CvX', 'LeViX', 'PiX', 'ViX', 'XViT'),
    'errors': ('InputError',),
    'hub': ('create_model', 'find_config', 'list_models'),
    'inference': ('Prediction', 'load'),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        value = globals()[name] = getattr(import_module(f'xvit_det.{_ROOM_OF[name]}'), name)
        return value
    try:  # xvit_det.mixers and the like, without an import of their own
        return import_module(f'xvit_det.{name}')
    except ModuleNotFoundError as error:
        if error.name != f'xvit_det.{name}':
            raise
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


when_imported('mmengine', register)
when_imported('mmcv', wrap_hue)
when_imported('mmpretrain.utils.dependency', leave_out_multimodal)

"""What a model holds and costs, what it computes from an image, and what an environment can do."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xvit_det.analysis.counts import count_macs, count_parameters

if TYPE_CHECKING:
    from xvit_det.analysis.features import feature_maps
    from xvit_det.analysis.grad_cam import gradcam
    from xvit_det.analysis.influence import receptive_fields
    from xvit_det.analysis.tokens import token_maps

# Imported when they are asked for: they need numpy, which torch alone does not bring.
LATER = dict(feature_maps='features', gradcam='grad_cam', receptive_fields='influence', token_maps='tokens')

__all__ = ['count_macs', 'count_parameters', 'feature_maps', 'gradcam', 'receptive_fields', 'token_maps']


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{LATER[name]}'), name)

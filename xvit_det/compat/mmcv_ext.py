"""Stand-in for ``mmcv._ext``, mmcv's compiled ops; ``mmcv.ops`` imports it under that name where mmcv has none.

Ops that are not served resolve too, because mmcv asks for all names on import, but calling one raises a sentence that
says what to do.
"""

from collections.abc import Callable
from typing import Any

from xvit_det.compat.ops import missing
from xvit_det.compat.ops.carafe import carafe_backward, carafe_forward
from xvit_det.compat.ops.deform_attn import ms_deform_attn_backward, ms_deform_attn_forward
from xvit_det.compat.ops.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from xvit_det.compat.ops.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from xvit_det.compat.ops.masked_conv import masked_col2im_forward, masked_im2col_forward
from xvit_det.compat.ops.nms import nms, nms_match, softnms
from xvit_det.compat.ops.psa_mask import psamask_backward, psamask_forward
from xvit_det.compat.ops.roi_align import roi_align_backward, roi_align_forward

__all__ = [
    'carafe_backward',
    'carafe_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'masked_col2im_forward',
    'masked_im2col_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'nms_match',
    'psamask_backward',
    'psamask_forward',
    'roi_align_backward',
    'roi_align_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    return 'none (xvit_det serves the ops from torchvision)'


def get_compiling_cuda_version() -> str:
    return 'none'


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def unavailable(*args: Any, **kwargs: Any) -> Any:
        raise missing(name)

    return unavailable

"""What training configs name: layer-wise learning rates, and mixed precision that also runs without a GPU."""

from xvit_det.engine.amp import AutoAmpOptimWrapper
from xvit_det.engine.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['AutoAmpOptimWrapper', 'LayerDecayOptimWrapperConstructor']

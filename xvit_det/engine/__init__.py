"""What training configs name: layer-wise learning rates, mixed precision on any device, feature distillation."""

from xvit_det.engine.amp import AutoAmpOptimWrapper
from xvit_det.engine.distillation import FeatureDistillation
from xvit_det.engine.layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['AutoAmpOptimWrapper', 'FeatureDistillation', 'LayerDecayOptimWrapperConstructor']

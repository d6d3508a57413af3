"""Load a trained model, predict images, and draw or save the predictions."""

from xvit_det.errors import INSTALL_OPENMMLAB

try:
    from xvit_det.inference.loading import load
    from xvit_det.inference.predictor import Predictor
    from xvit_det.inference.results import Prediction
    from xvit_det.inference.tiles import predict_tiles
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    raise ModuleNotFoundError(f'load needs mmengine: {INSTALL_OPENMMLAB}', name='mmengine') from None

__all__ = ['Prediction', 'Predictor', 'load', 'predict_tiles']

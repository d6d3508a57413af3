"""Trained models at work: load one, give it images, take, draw or save what it finds."""

from xvit_det.inference.loading import load
from xvit_det.inference.predictor import Predictor
from xvit_det.inference.results import Prediction

__all__ = ['Prediction', 'Predictor', 'load']

"""Counting what a model holds and costs."""

from xvit_det.analysis.counts import count_macs, count_parameters

__all__ = ['count_macs', 'count_parameters']

"""What a model holds and costs, and what an environment can do."""

from xvit_det.analysis.counts import count_macs, count_parameters

__all__ = ['count_macs', 'count_parameters']

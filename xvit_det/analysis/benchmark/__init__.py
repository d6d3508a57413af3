"""Speed, memory and scaling of backbones beside their peers, and where a detector's time goes.

``python -m xvit_det.analysis.benchmark --help``, or ``tools/benchmark.py`` in a clone.
"""

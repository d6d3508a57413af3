"""``python -m xvit_det.analysis.benchmark``: see :mod:`xvit_det.analysis.benchmark.command`."""

from xvit_det.analysis.benchmark.command import main

if __name__ == '__main__':
    main()

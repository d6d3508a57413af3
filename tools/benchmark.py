"""Measure speed, memory and scaling beside peers: ``python tools/benchmark.py speed --models xvit_s xcit_s12``.

Works from a clone that is not installed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xvit_det.cli.benchmark import main  # noqa: E402

if __name__ == '__main__':
    main()

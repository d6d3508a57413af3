"""Train a model: ``python tools/train.py CONFIG``; works from a clone that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xvit_det.cli.train import main  # noqa: E402

if __name__ == '__main__':
    main()

"""Start the processes of a distributed run: what dist_train.sh and dist_test.sh call; from a clone, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xvit_det.cli.launch import main  # noqa: E402

if __name__ == '__main__':
    main()

"""``python -m xvit_det``, the same as the command ``xvit-det``."""

from xvit_det.cli import main

if __name__ == '__main__':
    main()

"""Lets every process of an environment find our stand-ins for missing modules, whatever it imports first.

Python imports an installed copy of this file at its start, because of ``startup.pth`` beside it. So it imports nothing
that takes time. ``XVIT_DET_STAND_INS=0`` switches the stand-ins off.
"""

import os
import sys

# Missing module: the module of xvit_det.compat that takes its place.
STAND_INS = {
    'mmcv._ext': 'mmcv_ext',  # mmcv's compiled ops
    'pkg_resources': 'pkg_resources',  # dropped by setuptools 82; mmengine 0.10.7 imports it
}


class StandInFinder:
    """Near the end of ``sys.meta_path``, so that a compiled ``mmcv._ext``, even a broken one, is never hidden."""

    @staticmethod
    def find_spec(fullname, path=None, target=None):  # type: ignore[no-untyped-def]  # typing takes time, too
        if fullname not in STAND_INS:
            return None
        from importlib.util import find_spec, spec_from_file_location

        stand_in = find_spec(f'xvit_det.compat.{STAND_INS[fullname]}')
        return stand_in and spec_from_file_location(fullname, stand_in.origin)


def install() -> None:
    """Append the finder, once: there may be two copies of this file."""
    switched_on = os.environ.get('XVIT_DET_STAND_INS') != '0'
    if switched_on and not any(getattr(finder, '__name__', '') == 'StandInFinder' for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder)


install()

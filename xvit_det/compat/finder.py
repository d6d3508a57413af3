"""Finds our stand-ins for modules that an environment lacks, after every other finder has found nothing."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

STAND_INS = {
    'mmcv._ext': Path(__file__).with_name('mmcv_ext.py'),  # mmcv's compiled ops
    'pkg_resources': Path(__file__).with_name('pkg_resources.py'),  # dropped by setuptools 82; mmengine 0.10.7 wants it
}


class StandInFinder(MetaPathFinder):
    """The last entry of ``sys.meta_path``, so a compiled ``mmcv._ext``, even a broken one, is never hidden."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in STAND_INS:
            return spec_from_file_location(fullname, STAND_INS[fullname])
        return None

    @classmethod
    def install(cls) -> None:
        """Append the finder, once."""
        if not any(isinstance(finder, cls) for finder in sys.meta_path):
            sys.meta_path.append(cls())

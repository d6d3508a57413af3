"""Run the tests of the models, without those that compile, and a short training in the environment at hand, and note
what is installed in it.

Run it with the Python of each environment in turn; each adds a row to the record:

    .venv/bin/python benchmarks/versions.py --json benchmarks/cpu/versions.json
"""

import argparse
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from xml.etree import ElementTree

from xvit_det.benchmark.record import Record, make_header

REPO = Path(__file__).resolve().parents[1]
TESTS = ['backbones', 'mixers', 'layers', 'weights', 'compat']
PACKAGES = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmdetection', 'mmpretrain')


def installed() -> dict[str, str]:
    """Versions of what decides whether the package works; OneDL's names come with their prefix."""
    found = {each.metadata['Name']: each.version for each in distributions()}
    return {name: version for name, version in sorted(found.items()) if name.removeprefix('onedl-') in PACKAGES}


def run_tests(report: Path, tests: list[str]) -> dict[str, int]:
    """How many tests passed, failed and were skipped."""
    paths = [str(REPO / 'tests' / f'test_{name}') for name in tests]
    subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-k', 'not compile', f'--junitxml={report}', *paths], cwd=REPO
    )
    suite = next(ElementTree.parse(report).iter('testsuite'))
    number, skipped = int(suite.get('tests', 0)), int(suite.get('skipped', 0))
    failed = int(suite.get('failures', 0)) + int(suite.get('errors', 0))
    return dict(passed=number - skipped - failed, failed=failed, skipped=skipped)


def run_demo(folder: Path) -> str:
    """Train, evaluate and draw for one epoch on a few scenes; how that ended."""
    command = ['demo', '--images', '16', '--epochs', '1', '--processes', '1', '--data-dir', str(folder / 'data')]
    done = subprocess.run(
        [sys.executable, '-m', 'xvit_det', *command, '--work-dir', str(folder / 'demo')],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    return 'works' if not done.returncode else done.stderr.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--tests', nargs='+', default=TESTS, help='folders of tests/ (default: %(default)s)')
    parser.add_argument('--json', type=Path, help='file for the record')
    args = parser.parse_args()
    header = make_header('versions', 'cpu', tests=args.tests)
    python = header.pop('python')
    header.pop('torch')
    record = Record({key: value for key, value in header.items() if key != 'mmpretrain'}, args.json, resume=True)
    with tempfile.TemporaryDirectory() as place:
        results = run_tests(Path(place, 'tests.xml'), args.tests) | dict(demo=run_demo(Path(place)))
    record.add(dict(python=python, packages=installed()), **results)
    print(record.rows[-1])


if __name__ == '__main__':
    main()

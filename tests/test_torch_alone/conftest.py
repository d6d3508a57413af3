"""Environments with a part of this one's packages: real ones, whose packages are links to those of this environment."""

import os
import subprocess
import venv
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPO = Path(__file__).resolve().parents[2]


def installed_files(names: tuple[str, ...]) -> dict[str, Path]:
    """What these distributions and all that they require have put into ``site-packages``: name to path."""
    queue, seen, found = [Requirement(name) for name in names], set(), {}
    while queue:
        requirement = queue.pop()
        if (requirement.name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((requirement.name, frozenset(requirement.extras)))
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:  # a requirement that this environment does without
            continue
        found |= {file.parts[0]: Path(package.locate_file(file.parts[0])) for file in package.files or ()}
        for needed in map(Requirement, package.requires or ()):
            extras = ('', *requirement.extras)
            if needed.marker is None or any(needed.marker.evaluate(dict(extra=extra)) for extra in extras):
                queue.append(needed)
    return {name: path for name, path in found.items() if name not in ('..', '__pycache__')}


Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope='session')
def make_environment(tmp_path_factory) -> Callable[..., Run]:
    """``make_environment(*names)``: an environment with these distributions, what they require, and this package.

    It is given as a function that runs its Python: ``run(*arguments)``.
    """

    def make(*names: str) -> Run:
        folder = tmp_path_factory.mktemp('environment')
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob('lib/python*/site-packages')
        for name, path in (installed_files(names) | {'xvit_det': REPO / 'xvit_det'}).items():
            (packages / name).symlink_to(path)

        def run(*arguments: str | Path) -> subprocess.CompletedProcess:
            command = [folder / 'bin' / 'python', '-I', *arguments]  # -I: nothing but the environment is on the path
            environment = os.environ | dict(OMP_NUM_THREADS='1')
            return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)

        return run

    return make


@pytest.fixture(scope='session')
def alone(make_environment) -> Run:
    """Runs Python in an environment that has what this package requires, and nothing else."""
    return make_environment('torch', 'safetensors')

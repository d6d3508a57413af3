"""Fixtures that several test files share."""

import functools
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import mmengine.config.utils
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image

import xvit_det
from xvit_det.hub import find_config

REPO = Path(__file__).resolve().parents[1]

sys.path.append(str(Path(sys.prefix, 'frameworks')))  # where tools/setup_env.py puts it

# Each `_base_ = 'mmpretrain::…'` reads all files of that package's model index: most of the time that a config takes.
mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)


@pytest.fixture
def fresh_compiler() -> None:
    """Forget what torch.compile did in earlier tests: it gives up on a method after eight models that share it."""
    torch.compiler.reset()


@pytest.fixture(scope='session')
def check_gradients() -> Callable[..., None]:
    """``check_gradients(mixer, x, valid, size)``: of tokens and weights, against differences in float64."""

    def check(
        mixer: torch.nn.Module, x: torch.Tensor, valid: torch.Tensor | None = None, size: tuple | None = None
    ) -> None:
        names = [name for name, _ in mixer.named_parameters()]
        if hasattr(mixer, 'eps'):
            mixer.eps = (
                1e-12  # the softmax kernel's stabiliser is taken for a constant, which is exact without an epsilon
            )

        def run(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(mixer, dict(zip(names, weights, strict=True)), (x, valid, size))

        assert torch.autograd.gradcheck(run, (x.requires_grad_(), *mixer.parameters()), atol=1e-6, fast_mode=True)
        mixer(x, valid, size).square().sum().backward()
        assert all(p.grad.any() for p in mixer.parameters())

    return check


@pytest.fixture(scope='session')
def real_data() -> Callable[[str], Path]:
    """``real_data(name)``: a folder in ``$XVIT_DET_TEST_DATA``, or in ``../shared/data`` beside the clone."""

    def find(name: str) -> Path:
        root = Path(os.environ.get('XVIT_DET_TEST_DATA', REPO.parent / 'shared' / 'data')) / name
        if not root.is_dir():
            pytest.skip(f'no real images at {root}; set XVIT_DET_TEST_DATA to the folder that holds {name}/')
        return root

    return find


@pytest.fixture(scope='session')
def coco_tiny(real_data: Callable[[str], Path]) -> Path:
    """Folder with real photographs in COCO's layout."""
    return real_data('coco_tiny')


@pytest.fixture
def tiny_imagenet_folder(tmp_path: Path) -> Path:
    """Folder with a Tiny ImageNet of two classes, three training and one validation image of each, some grey."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'unpacked' / 'tiny-imagenet-200'
    words = {'n01443537': 'goldfish, Carassius auratus', 'n02002724': 'black stork, Ciconia nigra'}
    (folder / 'val' / 'images').mkdir(parents=True)
    files = [folder / 'val' / 'images' / f'val_{i}.JPEG' for i in range(2)]
    for wnid in words:
        images = folder / 'train' / wnid / 'images'
        images.mkdir(parents=True)
        files += [images / f'{wnid}_{i}.JPEG' for i in range(3)]
    for i, path in enumerate(files):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3)[: 2 + i % 2], dtype=np.uint8)).save(path)
    (folder / 'wnids.txt').write_text('\n'.join(words))
    (folder / 'words.txt').write_text(''.join(f'{wnid}\t{name}\n' for wnid, name in words.items()))
    rows = [f'val_{i}.JPEG\t{wnid}\t0\t0\t63\t63\n' for i, wnid in enumerate(reversed(words))]
    (folder / 'val' / 'val_annotations.txt').write_text(''.join(rows))
    return folder.parent


@pytest.fixture
def label_map_folder(tmp_path: Path) -> Path:
    """Folder as the shipped example for own label maps wants it: 4 training and 2 validation images, three classes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'mine'
    for split, count in (('train', 4), ('val', 2)):
        images, labels = folder / 'images' / split, folder / 'labels' / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            values = np.zeros((48, 64), np.uint8)
            values[: 4 * i + 8, :30] = 1
            values[30:, 30:] = 2
            values[:, -2:] = 255
            colours = np.stack([40 * values, 255 - values, rng.integers(0, 60, values.shape)], axis=-1)
            Image.fromarray(colours.astype(np.uint8)).save(images / f'{i}.jpg')
            Image.fromarray(values).save(labels / f'{i}.png')
    return folder


@pytest.fixture
def modern_config(tmp_path: Path) -> Callable[[str], str]:
    """``modern_config(name)``: the shipped config with the modern extras, by the lines in their file's comment."""
    extras = REPO / 'configs' / '_base_' / 'schedules' / 'vix_modern.py'
    lines = [line.removeprefix('#   ') for line in extras.read_text().splitlines() if line.startswith('#   ')]

    def write(name: str) -> str:
        text = '\n'.join(lines).replace('hybrid_vin_cifar10.py', str(find_config(name)))
        path = tmp_path / 'modern.py'
        path.write_text(text.replace('../../_base_/schedules/vix_modern.py', str(extras)))
        return str(path)

    return write


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
    """``make_environment(*names)``: a real environment with these distributions and what they require, which are links
    to those of this one, and, unless told otherwise, with this package.

    It is given as a function that runs its Python: ``run(*arguments)``.
    """

    def make(*names: str, package: bool = True) -> Run:
        folder = tmp_path_factory.mktemp('environment')
        venv.create(folder, symlinks=True)
        (packages,) = folder.glob('lib/python*/site-packages')
        ours = {'xvit_det': REPO / 'xvit_det'} if package else {}
        for name, path in (installed_files(names) | ours).items():
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


@pytest.fixture(scope='session')
def save_model(tmp_path_factory) -> Callable[..., Path]:
    """``save_model(name, meta, **overrides)``: a checkpoint of a shipped config with untrained weights, beside it the
    config."""

    def save(name: str, meta: dict | None = None, **overrides: object) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        model = xvit_det.create_model(name, **overrides)
        model.cfg.dump(folder / find_config(name).name)
        torch.save(dict(state_dict=model.state_dict(), meta=meta or {}), folder / 'checkpoint.pth')
        return folder / 'checkpoint.pth'

    return save

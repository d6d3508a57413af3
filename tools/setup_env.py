"""Set up the environment that `make demo` and `make test` run in; `make setup` calls this.

It needs nothing but Python's standard library, does only what is missing, and ends with a self-check, so that running
it again after an interruption, or after the requirements changed, repairs the environment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
LIBRARIES = REPO / 'requirements' / 'libraries.txt'
FRAMEWORKS = REPO / 'requirements' / 'frameworks.txt'
# stack -> (the family's requirements, its environment)
STACKS = {
    'onedl': (REPO / 'requirements.txt', REPO / '.venv'),
    'official': (REPO / 'requirements' / 'official.txt', REPO / '.venv-official'),
}
PYTHONS = ((3, 10), (3, 11), (3, 12))
DISK_GB = 10  # 7 of them stay; the rest are downloads
STAMP = 'xvit_det-setup'  # file in the environment: fingerprint of what was installed


class SetupError(Exception):
    """Set-up cannot go on; the message is one sentence that says what to do."""


def read_pins(path: Path) -> dict[str, str]:
    """Return the exact pins ``name==version`` of one requirements file, without the files it includes."""
    return dict(re.findall(r'^([\w.-]+)==([\w.]+)', path.read_text(), flags=re.MULTILINE))


def check_python(version: tuple[int, ...] = sys.version_info[:2]) -> None:
    if tuple(version) not in PYTHONS:
        raise SetupError(
            f'Python {version[0]}.{version[1]} is not supported: install Python 3.10, 3.11 or 3.12 and run '
            '`make PYTHON=python3.12 …`.'
        )


def check_disk(folder: Path, needed_gb: float = DISK_GB) -> None:
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < needed_gb:
        raise SetupError(
            f'{folder} has {free_gb:.1f} GB free, but setting up the environment takes about {needed_gb} GB: '
            'make room or clone onto another disk.'
        )


def check_pair(pins: dict[str, str]) -> None:
    """torch 2.N and torchvision 0.(N + 15) are released together; other pairs fail when torchvision is imported."""
    torch, torchvision = pins['torch'], pins['torchvision']
    fitting = f'0.{int(torch.split(".")[1]) + 15}'
    if not torchvision.startswith(fitting + '.'):
        raise SetupError(
            f'{LIBRARIES.name} asks for torch {torch} and torchvision {torchvision}, which do not fit together: '
            f'torch {torch} needs torchvision {fitting}.*.'
        )


def env_python(env: Path) -> Path:
    return env / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def runs(env: Path, code: str) -> bool:
    """Whether the environment's Python exists and executes ``code`` without an error."""
    python = env_python(env)
    return python.exists() and subprocess.run([python, '-c', code], capture_output=True).returncode == 0


def fingerprint(requirements: Path) -> str:
    """Hash of all that decides what is installed; the clone's path is part of it, as the package is editable."""
    parts = [
        LIBRARIES.read_text(),
        FRAMEWORKS.read_text(),
        requirements.read_text(),
        (REPO / 'pyproject.toml').read_text(),
    ]
    parts += [
        Path(__file__).read_text(),
        (REPO / 'xvit_det' / 'compat' / 'startup.py').read_text(),
        str(REPO),
        sys.version,
    ]
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()


def is_ready(env: Path, requirements: Path) -> bool:
    stamp = env / STAMP
    return stamp.exists() and env_python(env).exists() and stamp.read_text() == fingerprint(requirements)


def say(text: str) -> None:
    print(f'\n== {text}', flush=True)


def pip(env: Path, *args: str | Path, **variables: str) -> None:
    command = [env_python(env), '-m', 'pip', '--disable-pip-version-check', *args]
    if subprocess.run(command, cwd=REPO, env={**os.environ, **variables}).returncode:
        raise SetupError(
            f'`pip {" ".join(map(str, args))}` failed (its last lines say why); running the same command again goes on '
            'from here.'
        )


def make_env(env: Path) -> None:
    """Create the environment, or replace one that is broken or of another Python; keep a usable one."""
    same_python = f'import pip, sys; assert sys.version_info[:2] == {tuple(sys.version_info[:2])}'
    if runs(env, same_python):
        return
    try:
        venv.create(env, clear=True, with_pip=True)
    except (subprocess.CalledProcessError, ImportError):  # Debian and Ubuntu ship Python without ensurepip
        name = f'python{sys.version_info[0]}.{sys.version_info[1]}-venv'
        raise SetupError(
            f'{sys.executable} cannot create a virtual environment: install {name} (`apt install {name}`).'
        ) from None


def install(env: Path, requirements: Path) -> None:
    say(f'1/4 environment {env.name} with Python {sys.version.split()[0]}')
    make_env(env)
    say('2/4 torch, torchvision and libraries (a download of about 2.5 GB, which takes some minutes)')
    pip(env, 'install', '-r', LIBRARIES)
    # In a folder that only the tests look into: mmdet imports transformers where it finds it, seconds at every start.
    pip(env, 'install', '--no-deps', '--upgrade', '--target', env / 'frameworks', '-r', FRAMEWORKS)
    say('3/4 OpenMMLab packages and xvit_det')
    # --no-deps: all they need is in LIBRARIES; their own lists add opencv-python, which wants libGL.
    # --no-cache-dir, and pip's build isolation, which hides torch: mmcv comes without compiled ops, in seconds and
    # without a compiler, never from a cached wheel that was compiled against another torch.
    family = [f'{name}=={version}' for name, version in read_pins(requirements).items()]
    pip(env, 'install', '--no-deps', '--no-cache-dir', *family)
    pip(env, 'install', '--no-deps', '-e', '.')
    say('4/4 self-check')


def self_check(env: Path) -> bool:
    return subprocess.run([env_python(env), '-m', 'xvit_det', 'env', '--check'], cwd=env).returncode == 0


def setup(stack: str) -> None:
    requirements, env = STACKS[stack]
    if is_ready(env, requirements):
        return
    check_python()
    check_pair(read_pins(LIBRARIES))
    if not runs(env, 'import torch, torchvision'):
        check_disk(REPO)
    started = time.time()
    reused = env.exists()
    (env / STAMP).unlink(missing_ok=True)
    install(env, requirements)
    if not self_check(env):
        if not reused:
            raise SetupError('The self-check failed (see above); `make setup` tries again.')
        say('the environment that was there is damaged: starting from an empty one')
        shutil.rmtree(env)
        return setup(stack)
    (env / STAMP).write_text(fingerprint(requirements))
    say(f'ready in {time.time() - started:.0f} s: {env.name}')


def build_key(env: Path, mmcv: str) -> tuple[str, bool]:
    """Return the folder name of a compiled mmcv in the wheel cache, and whether it is built for CUDA."""
    code = (
        'import sys, torch; gpu = torch.cuda.is_available();'
        'arch = "-sm%d%d" % torch.cuda.get_device_capability() if gpu else "";'
        'print(sys.version_info[0], sys.version_info[1], torch.__version__, torch.version.cuda, arch, gpu, sep="|")'
    )
    out = subprocess.run([env_python(env), '-c', code], capture_output=True, text=True, check=True).stdout
    major, minor, torch, cuda, arch, gpu = out.strip().split('|')
    with_cuda = gpu == 'True' and shutil.which('nvcc') is not None
    device = f'cuda{cuda}{arch}' if with_cuda else 'cpu'
    return f'python{major}.{minor}-torch{torch}-mmcv{mmcv}-{device}', with_cuda


def has_compiler() -> bool:
    compiler = shutil.which(os.environ.get('CXX', 'c++'))
    return compiler is not None and subprocess.run([compiler, '--version'], capture_output=True).returncode == 0


def compile_mmcv(env: Path, version: str, cache: Path, with_cuda: bool) -> None:
    """Build mmcv's wheel with its ops into the folder ``cache``."""
    if not has_compiler():
        raise SetupError(
            'Compiling mmcv needs a C++ compiler and none was found: install one (`apt install g++`) or go on '
            "without, everything xvit_det ships runs on torchvision's ops."
        )
    say(f'compiling mmcv {version} for {cache.name} (about 7 minutes on two cores)')
    pip(env, 'install', 'setuptools>=80,<82', 'wheel', 'ninja', 'packaging')
    # mmcv's build asks torch for a GPU; without nvcc it must not see one. ninja is in the environment's bin.
    device = {'FORCE_CUDA': '1'} if with_cuda else {'CUDA_VISIBLE_DEVICES': ''}
    path = os.pathsep.join([str(env_python(env).parent), os.environ.get('PATH', '')])
    # Without isolation mmcv's build sees torch; a cached wheel could be one without ops; -v shows the progress.
    flags = ['-v', '--no-deps', '--no-build-isolation', '--no-cache-dir', '--no-binary', 'onedl-mmcv', '-w', cache]
    pip(env, 'wheel', *flags, f'onedl-mmcv=={version}', PATH=path, **device)


def setup_compiled(stack: str) -> None:
    """Replace the environment's mmcv by one with compiled ops, from the user's wheel cache or built now."""
    if stack != 'onedl':
        raise SetupError('Ops are compiled for the onedl stack only: use `make setup-compiled` without STACK.')
    setup(stack)
    requirements, env = STACKS[stack]
    version = read_pins(requirements)['onedl-mmcv']
    key, with_cuda = build_key(env, version)
    cache = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'xvit_det' / 'wheels' / key
    if not list(cache.glob('*.whl')):
        compile_mmcv(env, version, cache, with_cuda)
    say(f'installing mmcv from {cache}')
    pip(env, 'install', '--no-deps', '--force-reinstall', *cache.glob('*.whl'))
    if not self_check(env) or not runs(env, 'import torch, mmcv._ext'):
        shutil.rmtree(cache)
        (env / STAMP).unlink()
        raise SetupError(
            'The compiled mmcv does not import and was removed from the cache; run the same command again.'
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stack', choices=STACKS, default='onedl', help='which OpenMMLab family to install')
    parser.add_argument('--compiled', action='store_true', help="also compile mmcv's own ops")
    args = parser.parse_args()
    try:
        check_python()
        (setup_compiled if args.compiled else setup)(args.stack)
    except SetupError as error:
        print(f'\nset-up stopped: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nset-up interrupted: the next run goes on from here.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())

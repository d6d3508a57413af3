"""A record: a JSON file with a header, which describes the machine and the settings, and rows of results."""

import contextlib
import json
import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import xvit_det
from xvit_det.errors import InputError

# Header fields that may differ between the rows of a record; all others must agree.
MAY_DIFFER = ('date', 'python', 'xvit_det', 'mmpretrain', 'cores', 'cuda')
# Instructions that decide how fast PyTorch's CPU kernels are.
X86_FLAGS = ('avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'avx512_fp16', 'amx_tile', 'amx_int8', 'amx_bf16')
ARM_FLAGS = ('asimd', 'asimddp', 'sve', 'bf16', 'i8mm')


def make_header(kind: str, device: str, **settings: object) -> dict:
    """Machine, versions, threads, date and the measurement's own settings.

    Args:
        kind: Name of the measurement.
        device: ``'cpu'`` or ``'cuda'``.
        **settings: What else must be the same for all rows.
    """
    cpu, flags = _cpu()
    header = dict(
        kind=kind,
        device=torch.cuda.get_device_name() if device == 'cuda' else cpu,
        cpu_flags=flags,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        date=date.today().isoformat(),
        python=platform.python_version(),
        torch=torch.__version__,
        xvit_det=xvit_det.__version__,
    )
    if device == 'cuda':
        header['cuda'] = torch.version.cuda
    for name in ('mmpretrain', 'onedl-mmpretrain'):
        with contextlib.suppress(PackageNotFoundError):
            header['mmpretrain'] = version(name)
    return header | settings


def _cpu() -> tuple[str, list[str]]:
    """The CPU's name with the vector instructions that PyTorch uses, and those of the flags above that it has."""
    path = Path('/proc/cpuinfo')
    pairs = [line.split(':', 1) for line in path.read_text().splitlines() if ':' in line] if path.exists() else []
    info = {key.strip(): value.strip() for key, value in pairs}
    name = info.get('model name') or platform.processor() or platform.machine()
    flags = (info.get('flags') or info.get('Features', '')).split()
    return f'{name}, {torch.backends.cpu.get_cpu_capability()}', [
        flag for flag in (*X86_FLAGS, *ARM_FLAGS) if flag in flags
    ]


class Record:
    """A header and rows; with a path, saved whenever a row is added.

    Args:
        header: See :func:`make_header`.
        path: The file; ``None``: the record stays in memory.
        resume: Keep the rows of an existing file.

    Raises:
        InputError: The file exists and ``resume`` is not given, or its header differs in more than ``MAY_DIFFER``.
    """

    def __init__(self, header: dict, path: Path | None = None, resume: bool = False) -> None:
        self.path, self.header = path, header
        self.rows: list[dict] = []
        if path is None or not path.exists():
            return
        if not resume:
            raise InputError(f'{path} exists; continue it with --resume, or give --json another name')
        old = read(path)
        for key, now in header.items():
            was = old['header'].get(key)
            if was != now and key not in MAY_DIFFER:
                raise InputError(f'{path} has {key} {was!r}, but this run has {now!r}; give --json another name')
        self.header, self.rows = old['header'] | header, old['rows']

    def find(self, keys: dict) -> dict | None:
        """The row with these values, if there is one."""
        return next((row for row in self.rows if keys.items() <= row.items()), None)

    def add(self, keys: dict, **results: object) -> None:
        """Add the row ``keys | results`` in place of one with the same keys, and save."""
        self.rows = [row for row in self.rows if not keys.items() <= row.items()] + [keys | results]
        self.save()

    def save(self) -> None:
        """Replace the file in one step, so that an interruption never leaves half of it."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f'{self.path.name}.part')
        part.write_text(json.dumps(dict(header=self.header, rows=self.rows), indent=1) + '\n')
        part.replace(self.path)


def read(path: Path) -> dict:
    """A record's ``header`` and ``rows``.

    Raises:
        InputError: No such file, or not a record.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{path} is not JSON: {error}') from error
    if not isinstance(content, dict) or not {'header', 'rows'} <= content.keys():
        raise InputError(f'{path} is not a record of xvit-det benchmark: it has no header and rows')
    return content

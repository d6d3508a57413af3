"""The results' file: a header that says where and how, and rows, saved after every case."""

import argparse
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

# What must agree for rows to stand in one table.
SAME = ('kind', 'device', 'threads', 'torch', 'config', 'input', 'compile_mode')


def make_header(kind: str, device: str) -> dict:
    """Machine, versions, threads and date."""
    header = dict(
        kind=kind,
        device=torch.cuda.get_device_name() if device == 'cuda' else _processor(),
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
    return header


def _processor() -> str:
    """The CPU's name and widest vector instructions."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    name = names[0] if names else platform.processor() or platform.machine()
    return f'{name}, {torch.backends.cpu.get_cpu_capability()}'


class Record:
    """A header and rows; with a path, saved whenever rows are added.

    Args:
        header: See :func:`make_header`.
        path: Where to; ``None``: only in memory.
        resume: Keep the rows that are in the file already.

    Raises:
        InputError: The file exists and is not to be resumed, or is of another machine or command.
    """

    def __init__(self, header: dict, path: Path | None = None, resume: bool = False) -> None:
        self.path = path
        self.content: dict = dict(header=header, rows=[])
        if resume and path is None:
            raise InputError('--resume goes on with the file that --json names; give it')
        if path is None or not path.exists():
            return
        if not resume:
            raise InputError(f'{path} exists; go on with it by --resume, or give --json another name')
        self.content = read(path)
        for key in SAME:
            old, new = self.header.get(key), header.get(key)
            if old != new:
                raise InputError(f'--resume: {path} was recorded with {key} {old!r}, but this run has {new!r}')

    @property
    def header(self) -> dict:
        return self.content['header']

    @property
    def rows(self) -> list[dict]:
        return self.content['rows']

    def find(self, keys: dict) -> dict | None:
        """The row of this case, if it was measured."""
        return next((row for row in self.rows if keys.items() <= row.items()), None)

    def add(self, rows: list[dict], keys: tuple[str, ...]) -> None:
        """Add rows, each in place of the one with the same values of ``keys``, and save."""
        for row in rows:
            old = self.find({key: row[key] for key in keys})
            if old is not None:
                self.rows.remove(old)
            self.rows.append(row)
        self.save()

    def save(self) -> None:
        """Write all of it beside the old file and then over it, so that a stop in between loses nothing."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + '.part')
        part.write_text(json.dumps(self.content, indent=1) + '\n')
        part.replace(self.path)


def read(path: Path) -> dict:
    """A record's content.

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
        raise InputError(f'{path} is not a record of tools/benchmark.py: it has no header and rows')
    return content


def open_record(args: argparse.Namespace, **more: object) -> Record:
    """The record of a command with ``--json``, ``--resume`` and ``--device``."""
    return Record({**make_header(args.kind, args.device), **more}, args.json, args.resume)

"""The checkpoint that training continues from: found, read, and compared with what is about to run."""

from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process

from xvit_det.engine.checkpoints import LAST, PART
from xvit_det.errors import InputError
from xvit_det.weights.files import read_checkpoint


def find_checkpoint(folder: str | Path) -> tuple[Path, dict, str] | None:
    """The checkpoint of a work folder to go on from: that named in ``last_checkpoint``, else the newest sound one.

    Args:
        folder: The work folder. It may have been moved, with its checkpoints, since ``last_checkpoint`` was written.

    Returns:
        Its path, its content, and why it is not the one that was named, if so; ``None`` if there are no checkpoints.

    Raises:
        InputError: There are some, and none can be read.
    """
    note = Path(folder, LAST)
    named = Path(note.read_text(errors='replace').strip()) if note.is_file() else Path()
    moved = note.with_name(named.name) if named.name else note  # which is no checkpoint
    candidates = [path for path in (named, moved) if isfile(path) and path != note]
    beside = sorted(Path(folder).glob('*.pth'), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    problems: dict[Path, InputError] = {}
    for path in dict.fromkeys([*candidates, *beside]):
        try:
            content = read_training_state(path)
        except InputError as error:
            problems[path.resolve()] = error
            continue
        if path in candidates:
            return path, content, ''
        missing = f'{note} names no file' if note.is_file() else f'there is no {note}'
        return path, content, str(problems[candidates[0].resolve()]) if candidates else missing
    if problems:
        raise InputError(
            f'--resume: no checkpoint in {folder} can be used ({next(iter(problems.values()))}); to start from '
            f'scratch, give another --work-dir'
        )
    return None


def read_training_state(path: str | Path) -> dict:
    """A checkpoint that training can continue from.

    Raises:
        InputError: It cannot be read, or holds weights alone.
    """
    if not Path(path).is_file():
        raise InputError(f'--resume: {path} is not a file')
    content = read_checkpoint(path)
    if 'epoch' not in content.get('meta', {}) or 'optimizer' not in content:
        raise InputError(
            f'{path} holds weights alone, and training cannot be resumed from weights alone; start from them with '
            f'load_from instead'
        )
    return content


@dataclass
class Start:
    """How training starts.

    Attributes:
        note: What it goes on from, or why not; empty where it does not resume.
        warnings: What the user may not expect.
        finished: Nothing is left to do.
    """

    note: str = ''
    warnings: list[str] = field(default_factory=list)
    finished: bool = False


def prepare_start(cfg: Config, weights: str | None = None) -> Start:
    """Find the checkpoint that a config with ``resume`` goes on from, and set ``load_from`` and the seed for it.

    Args:
        cfg: Changed in place. ``load_from`` is the checkpoint, or ``None`` for that of the work folder.
        weights: ``load_from``, for training that has no checkpoint yet.

    Raises:
        InputError: It cannot be used, or the work folder has checkpoints of which none can be read.
    """
    if not cfg.get('resume'):
        begun = Path(cfg.work_dir, LAST).is_file()
        older = (
            f'{cfg.work_dir} has checkpoints of an earlier training, which are overwritten; --resume goes on from them.'
        )
        return Start(warnings=[older] if begun else [])
    if is_main_process():
        for part in Path(cfg.work_dir).glob(f'*{PART}'):
            part.unlink()  # of a checkpoint that was being written when its training was killed
    start = Start()
    if cfg.get('load_from'):
        content = read_training_state(cfg.load_from)
    elif found := find_checkpoint(cfg.work_dir):
        path, content, problem = found
        cfg.load_from = str(path)
        if problem:
            start.warnings.append(f'--resume takes the newest checkpoint that can be used, {path}: {problem}.')
    else:
        cfg.resume, cfg.load_from = False, weights
        beginning = f'with the weights of {weights}' if weights else 'from scratch'
        return Start(f'No checkpoint in {cfg.work_dir} yet: {beginning}.')
    meta = content['meta']
    if end := _finished(cfg, meta):
        return Start(f'{cfg.load_from} is of {end}: the training is finished.', finished=True)
    start.note = f'Resume from {cfg.load_from}: epoch {meta["epoch"]}, iteration {meta["iter"]}.'
    start.warnings += _changes(cfg, meta)
    if meta.get('seed') is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=meta['seed'])
    return start


def _finished(cfg: Config, meta: dict[str, Any]) -> str | None:
    """``'epoch 12 of 12'`` if the training of a checkpoint has nothing left to do."""
    for key, name in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        last = cfg.train_cfg.get(name)
        if last is not None and meta[key] >= last:
            return f'{key} {meta[key]} of {last}'
    return None


def _changes(cfg: Config, meta: dict[str, Any]) -> list[str]:
    """What to say if an iteration is not made from as many images as before."""
    now, before = [get_world_size(), cfg.train_dataloader.get('batch_size')], meta.get('processes_and_batch')
    if not before or now == before:
        return []
    return [
        f'The checkpoint is of a training run with {before[0]} x {before[1]} images for each iteration, this one has '
        f'{now[0]} x {now[1]}: the learning rate stays as it is, and an epoch that was interrupted begins again.'
    ]

"""Join the other processes of a distributed run, and leave them."""

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed
from mmengine.config import Config

from xvit_det.engine.amp import amp_available
from xvit_det.errors import InputError, LocalError

# The environment variable by which each launcher tells a process its number.
RANK_VARIABLES = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}

LAUNCH = 'start it with tools/dist_train.sh or dist_test.sh, tools/slurm_train.sh or slurm_test.sh, or mpirun'
MEETING = timedelta(minutes=5)  # how long processes wait for each other at the start
LOST = 75  # exit status of a process whose group is broken: others may try again
GRACE = 20  # seconds in which a process whose launcher is gone can save what it has


def set_launcher(cfg: Config, launcher: str, local_rank: int = 0) -> None:
    """Join the other processes. mmengine does this with GPUs only; without them it is done here, over gloo.

    Args:
        cfg: Changed in place.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: Number of this process on its machine, where the launcher gives it as an option.

    Raises:
        InputError: The launcher did not start this process, it needs GPUs and there are none, or the processes do not
            meet.
    """
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none':
        return
    if RANK_VARIABLES[launcher] not in os.environ:
        raise InputError(f'--launcher {launcher} finds no {RANK_VARIABLES[launcher]} in the environment; {LAUNCH}')
    if launcher == 'pytorch':
        _check_variables()
    watch_parent()
    if amp_available():
        return
    if launcher != 'pytorch':
        raise InputError(f'--launcher {launcher} needs GPUs; on CPUs use --launcher pytorch (tools/dist_train.sh)')
    join_cpu_group(cfg)


def _check_variables() -> None:
    """Compare what torchrun sets: with wrong numbers the processes would wait for each other."""
    missing = [name for name in ('WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        raise InputError(f'--launcher pytorch finds no {" and no ".join(missing)} in the environment; {LAUNCH}')
    numbers = {name: os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT')}
    for name, text in numbers.items():
        if not text.isdecimal():
            raise LocalError(f'{name}={text!r} in the environment is not a whole number; {LAUNCH}')
    if int(numbers['RANK']) >= int(numbers['WORLD_SIZE']):
        raise LocalError(
            f'RANK={numbers["RANK"]} in the environment is not below WORLD_SIZE={numbers["WORLD_SIZE"]}; {LAUNCH}'
        )


def watch_parent() -> None:
    """Stop this process when the one that has started it ends, so that a launcher which is killed leaves no orphans."""
    threading.Thread(target=_stop_with, args=(os.getppid(),), daemon=True).start()


def _stop_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)  # training saves what it has
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)


def join_cpu_group(cfg: Config) -> None:
    """Join the processes that RANK and WORLD_SIZE in the environment describe, over gloo, and set the config for it."""
    cfg.launcher = 'pytorch'
    cfg.pop('sync_bn', None)  # torch synchronises BatchNorm on GPUs only
    try:
        store, rank, world_size = next(torch.distributed.rendezvous('env://', timeout=MEETING))
        torch.distributed.init_process_group('gloo', store=store, rank=rank, world_size=world_size)
    except (torch.distributed.DistError, RuntimeError, ValueError, OSError) as error:
        at = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
        used = 'EADDRINUSE' in str(error) or 'address already in use' in str(error)
        reason = 'the port is in use; choose another with PORT' if used else str(error).splitlines()[0]
        raise LocalError(f'process {os.environ["RANK"]} cannot meet the others at {at}: {reason}') from error
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


@contextmanager
def told_losses() -> Iterator[None]:
    """Around work that the processes share: what torch raises when another one is gone becomes one sentence.

    Raises:
        SystemExit: Another process was killed or has failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not torch.distributed.is_initialized() or not re.search('gloo|NCCL|[Cc]onnection|TCPStore', str(error)):
            raise
        if 'TORCHELASTIC_RUN_ID' not in os.environ:  # else the launcher says which one
            print(f'error: rank {torch.distributed.get_rank()} has lost another process', file=sys.stderr, flush=True)
        raise SystemExit(LOST) from error


def leave_group() -> None:
    """Leave the group together with the other processes, once DDP holds no reference to it; gloo aborts otherwise."""
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

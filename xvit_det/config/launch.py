"""Join the other processes of a distributed run, and leave them."""

import gc
import os

import torch.distributed
from mmengine.config import Config

from xvit_det.engine.amp import amp_available
from xvit_det.errors import InputError

# The environment variable by which each launcher tells a process its number.
RANK_VARIABLES = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}


def set_launcher(cfg: Config, launcher: str, local_rank: int = 0) -> None:
    """Join the other processes. mmengine does this with GPUs only; without them it is done here, over gloo.

    Args:
        cfg: Changed in place.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: Number of this process on its machine, where the launcher gives it as an option.

    Raises:
        InputError: The launcher did not start this process, or it needs GPUs and there are none.
    """
    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none':
        return
    if RANK_VARIABLES[launcher] not in os.environ:
        raise InputError(
            f'--launcher {launcher} finds no {RANK_VARIABLES[launcher]} in the environment; start it with '
            f'tools/dist_train.sh or dist_test.sh (torchrun), tools/slurm_train.sh or slurm_test.sh, or mpirun'
        )
    if amp_available():
        return
    if launcher != 'pytorch':
        raise InputError(f'--launcher {launcher} needs GPUs; on CPUs use --launcher pytorch (tools/dist_train.sh)')
    join_cpu_group(cfg)


def join_cpu_group(cfg: Config) -> None:
    """Join the processes that RANK and WORLD_SIZE in the environment describe, over gloo, and set the config for it."""
    cfg.launcher = 'pytorch'
    cfg.pop('sync_bn', None)  # torch synchronises BatchNorm on GPUs only
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def leave_group() -> None:
    """Leave the group together with the other processes, once DDP holds no reference to it; gloo aborts otherwise."""
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

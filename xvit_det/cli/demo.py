"""``xvit-det demo``: train a small X-ViT detector or segmentor on drawn scenes, evaluate it, draw what it predicts.

It needs no data and no GPU and takes minutes on two CPU cores. OpenMMLab's own output goes into a log file.
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from xvit_det.cli.common import Arguments, check_positive, check_writable, command, make_parser
from xvit_det.errors import InputError
from xvit_det.stages import stage

# Task: the package that it needs, and where its results go.
TASKS = {
    'context': ('mmdet', 'work_dirs/demo'),
    'detection': ('mmdet', 'work_dirs/demo_detection'),
    'segmentation': ('mmseg', 'work_dirs/demo_segmentation'),
}


def _parser() -> ArgumentParser:
    parser = make_parser('demo', 'Train Mask R-CNN or Semantic FPN with a small X-ViT on drawn scenes and evaluate it.')
    tasks = 'detection where naming needs attention (the default), detection of six kinds of shapes, or segmentation'
    parser.add_argument('--task', choices=TASKS, default='context', help=tasks)
    folders = ', '.join(folder for _, folder in TASKS.values())
    parser.add_argument('--work-dir', type=Path, help=f'results (default: by task {folders})')
    parser.add_argument('--data-dir', type=Path, help='where the scenes are, or are drawn (default: in data/)')
    parser.add_argument('--seed', type=int, default=0, help='other seeds: other scenes and start weights')
    parser.add_argument('--epochs', type=int, help='shorter or longer training (default: as in the config)')
    parser.add_argument('--images', type=int, help='number of training scenes (default: as in the config)')
    parser.add_argument(
        '--processes', type=int, choices=[1, 2], help='(default: 2 where there are two cores and no GPU, else 1)'
    )
    return parser


@command
def main(argv: Arguments = None) -> None:
    """Run the demo with the arguments ``argv``, by default those of the process."""
    args = _parser().parse_args(argv)
    check_positive(args, 'epochs', 'images')
    package, folder = TASKS[args.task]
    if find_spec(package) is None:
        raise InputError(
            f'--task {args.task} needs {package}, which is not installed: '
            'run `make setup`, or install xvit_det with the extra onedl or openmmlab'
        )
    args.work_dir = args.work_dir or Path(folder)
    check_writable(args.work_dir, '--work-dir')
    # After the arguments: help does not wait for torch.
    import torch

    from xvit_det.cli.demo_training import demo, log_file

    log_file(args).write_text('')
    if args.processes is None:
        args.processes = 1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1)
    args.precision = _precision(args.processes)
    args.given = sys.argv[1:] if argv is None else [*argv]
    stage(None)  # it has a live line
    if args.processes == 1:
        demo(args)
    else:
        _spawn(args)


def _precision(processes: int) -> str:
    """In which type to train, decided once for all processes: trials in each of them could disagree."""
    import torch

    from xvit_det.kernels import bfloat16_trial

    if processes > 1:
        torch.set_num_threads(1)  # as in each of the processes
    return 'bfloat16' if not torch.cuda.is_available() and bfloat16_trial.is_faster() else 'float32'


def _spawn(args: Namespace) -> None:
    """Train with one thread in each of several processes: on layers this small, a second thread gains nothing."""
    import torch.multiprocessing
    from torch.distributed.elastic.utils.distributed import get_free_port

    port = str(get_free_port())
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=str(args.processes), OMP_NUM_THREADS='1')
    try:
        torch.multiprocessing.spawn(_worker, (args,), nprocs=args.processes)
    except torch.multiprocessing.ProcessExitedException as error:
        if error.exit_code >= 0:
            raise SystemExit(error.exit_code) from None
        killed = f'error: rank {error.error_index} was killed by {error.signal_name}; the other processes were stopped'
        print(killed, file=sys.stderr, flush=True)
        raise SystemExit(128 - error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _worker(rank: int, args: Namespace) -> None:
    from xvit_det.cli.demo_training import demo

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    command(demo)(args)


if __name__ == '__main__':
    main()

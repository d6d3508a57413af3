"""Run the checks that need a GPU, one command each.

    python benchmarks/gpu/run.py speed --minutes 9

runs the commands of a check one after the other, the most informative first, and saves results as they are measured.
If interrupted or out of time, run it again to continue: finished commands are listed in ``<out>/done.txt`` (remove a
line to repeat it), benchmarks continue with the next case, and training on CIFAR-10 with the next epoch. Tests and
photographs start over, and need all of their minutes at once. ``--toy`` rehearses a check on a CPU, in ``<out>/toy``,
with models, images and numbers of steps so small that the figures mean nothing.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
Command = list[str]

# Rows of the paper's Tables 1, 5 and 6, the most informative first.
CIFAR10 = ('hybrid_vin', 'hybrid_vit', 'vin', 'vit', 'hybrid_vip', 'hybrid_fnet')
CIFAR10 += ('vin_rope', 'hybrid_vin_rope', 'vit_rope', 'hybrid_vit_rope')
EPOCHS = 40  # as in the paper, which also reports the best epoch
PEERS = ('deit_s', 'xcit_s12', 'swin_t')
TOY = {'xvit_s': 'xvit_t', 'deit_s': 'deit_t', 'xcit_s12': 'xcit_t12'}
BATCHES = {'224': 64, '800x1344': 2, '384': 32, '512': 16, '1600x2688': 1}
INFERENCE = ('fused-compiled', 'compiled', 'fused', 'eager')
TRAINING = ('training', 'training-compiled')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('check', choices=CHECKS)
    parser.add_argument('--out', type=Path, default=REPO / 'benchmarks/gpu/results', help='folder of the results')
    parser.add_argument('--cifar', type=Path, default=REPO / 'data/cifar10', help='folder with cifar-10-batches-py')
    parser.add_argument('--coco', type=Path, default=REPO / 'data/coco', help='folder with annotations/, train2017/')
    parser.add_argument('--minutes', type=float, default=9.0, help='stop after this time')
    parser.add_argument('--toy', action='store_true', help='rehearse on a CPU')
    return parser.parse_args()


def tests(args: argparse.Namespace) -> Iterator[Command]:
    """Outputs on the GPU against the CPU's, in every dtype and mode; the Triton kernels against PyTorch."""
    for files in ('tests/test_gpu.py', 'tests/test_kernels'):
        yield ['env', 'XVIT_DET_TRITON=1', *python('-m', 'pytest', files, *(['-k', 'XViT'] if args.toy else []))]


def speed(args: argparse.Namespace) -> Iterator[Command]:
    """Time beside the peers: inference and training, bf16 and then fp32, without and with Triton kernels."""
    sizes = list(BATCHES.items())[: 2 if args.toy else None]
    for dtype in ('bf16', 'fp32'):
        for size, batch in sizes:
            for modes in (INFERENCE, TRAINING):
                yield benchmark(args, 'speed', 'speed', ('xvit_s', *PEERS), (size,), batch, dtype, modes)
    for size, batch in sizes:
        command = benchmark(args, 'speed', 'speed_with_triton', ('xvit_s',), (size,), batch, 'bf16', INFERENCE)
        yield ['env', 'XVIT_DET_TRITON=1', *command]


def memory(args: argparse.Namespace) -> Iterator[Command]:
    """Peak memory of a training step with and without with_cp, and both costs against the number of tokens."""
    models = ('xvit_s', *PEERS)
    for dtype in ('bf16', 'fp32'):
        yield benchmark(args, 'memory', 'memory', models, ('800x1344',), 1, dtype, ('training',))
    yield benchmark(args, 'scaling', 'scaling', models, ('224', '448', '896', '1344', '1792'), 1, 'bf16', ('eager',))
    yield benchmark(args, 'scaling', 'scaling', ('xvit_s',), ('1600x2688', '3200x5376'), 1, 'bf16', ('eager',))


def cifar10(args: argparse.Namespace) -> Iterator[Command]:
    """Train rows of the paper's tables with its recipe; the log of each has the accuracy of every epoch."""
    for name in CIFAR10[:1] if args.toy else CIFAR10:
        options = [f'train_cfg.max_epochs={1 if args.toy else EPOCHS}', 'randomness.seed=0']
        if args.toy:
            options += [f'{split}_dataloader.dataset.indices=8' for split in ('train', 'val', 'test')]
            options += ['train_dataloader.batch_size=4']
        yield python(
            *('tools/train.py', f'configs/classification/vix/{name}_cifar10.py', '--data-root', args.cifar),
            *('--resume', '--work-dir', args.out / 'cifar10' / name, '--cfg-options', *options),
        )
    yield python('benchmarks/gpu/cifar10_table.py', args.out / 'cifar10', '--json', args.out / 'cifar10.json')


def photographs(args: argparse.Namespace) -> Iterator[Command]:
    """Mask R-CNN with X-ViT-S on eight real photographs until it overfits them."""
    toy = ('--images', '2', '--short-side', '64', '--epochs', '10', '--target', '0') if args.toy else ()
    yield python(
        *('benchmarks/overfit_photographs.py', '--data-root', args.coco, '--bf16', '--target', '0.9'),
        *('--short-side', '512', '--epochs', '300', *toy),
        *('--work-dir', args.out / 'photographs', '--json', args.out / 'photographs.json'),
    )


CHECKS: dict[str, Callable[[argparse.Namespace], Iterator[Command]]] = {
    check.__name__: check for check in (tests, speed, memory, cifar10, photographs)
}


def python(*argv: object) -> Command:
    return [sys.executable, *map(str, argv)]


def benchmark(
    args: argparse.Namespace,
    kind: str,
    record: str,
    models: tuple[str, ...],
    sizes: tuple[str, ...],
    batch: int,
    dtype: str,
    modes: tuple[str, ...],
) -> Command:
    """An ``xvit-det benchmark`` command that adds to ``<out>/<record>.json``."""
    device = 'cuda'
    if args.toy:
        models, batch, device = tuple(TOY.get(name, name) for name in models), 1, 'cpu'
        sizes = tuple(str(32 * max(1, round(int(size.split('x')[0]) / 256))) for size in sizes)
        modes = tuple(mode for mode in modes if 'compiled' not in mode)
    return python(
        *('-m', 'xvit_det', 'benchmark', kind, '--device', device, '--models', *models, '--sizes', *sizes),
        *('--batch', batch, '--dtype', dtype, '--mode', *modes),
        *('--json', args.out / f'{record}.json', '--resume'),
        *(('--repeats', 2) if args.toy and kind != 'memory' else ()),
    )


def main() -> int:
    args = parse_args()
    args.out = args.out.resolve() / 'toy' if args.toy else args.out.resolve()
    args.cifar, args.coco = args.cifar.resolve(), args.coco.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    done = args.out / 'done.txt'
    environment = os.environ | (dict(XVIT_DET_TEST_DEVICE='cpu', CUDA_VISIBLE_DEVICES='') if args.toy else {})
    end = time.monotonic() + 60 * args.minutes
    for command in CHECKS[args.check](args):
        line = shlex.join(command)
        if done.exists() and line in done.read_text().splitlines():
            continue
        print(f'$ {line}', flush=True)
        try:
            status = subprocess.run(command, cwd=REPO, env=environment, timeout=end - time.monotonic()).returncode
        except subprocess.TimeoutExpired:
            print(f'{args.minutes:g} minutes are over; give the same command again to continue')
            return 3
        if status:
            return status
        with done.open('a') as file:
            file.write(line + '\n')
    print(f'check {args.check!r} is complete; its results are in {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

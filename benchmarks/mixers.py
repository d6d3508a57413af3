"""How fast are the token mixers, and how much memory do they need, beside packages that compute the same?

    python benchmarks/mixers.py --threads 2 --json benchmarks/cpu/mixers.json

runs our Nyström, Performer and Linformer attention and those of nystrom-attention, performer-pytorch and linformer
with the same weights and input, in turns, so that whatever else the machine does slows both alike. A ratio is the
median over the turns. The product of two 1024 x 1024 matrices, in the same turns, says what the machine can do at all.

Memory is the highest sum of all tensors alive beyond weights and input: by PyTorch's profiler on the CPU, by its
allocator on a GPU.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler reports on itself otherwise
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
warnings.filterwarnings('ignore', category=DeprecationWarning)

import torch  # noqa: E402
from linformer import LinformerSelfAttention  # noqa: E402
from nystrom_attention import NystromAttention as PackageNystromAttention  # noqa: E402
from performer_pytorch import SelfAttention as PackagePerformerAttention  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xvit_det.benchmark.memory import MIB, peak_bytes  # noqa: E402
from xvit_det.benchmark.timing import interleave, ratio  # noqa: E402
from xvit_det.mixers import LinformerAttention, NystromAttention, PerformerAttention  # noqa: E402

BATCH, DIMS, HEADS = 4, 128, 4
GRIDS = ((1, (32, 32)), (0, (64, 64)))  # class tokens and grid: 1025 and 4096 tokens
MATRIX = 1024
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
NAMES = {  # the packages' names of weights -> ours
    'to_qkv.': 'qkv.',
    'to_q.': 'q.',
    'to_k.': 'k.',
    'to_v.': 'v.',
    'to_out.0.': 'proj.',
    'to_out.': 'proj.',
    'res_conv.': 'conv.',
    'proj_k': 'projection',
    'fast_attention.projection_matrix': 'features',
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--repeats', type=int, default=21, help='turns of each mixer')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument(
        '--clock',
        choices=list(CLOCKS),
        default='wall',
        help='cpu: time that this process is at work, for a CPU shared with others, and one thread',
    )
    parser.add_argument('--json', type=Path, help='where to record the result')
    args = parser.parse_args()
    if args.clock == 'cpu' and (args.threads != 1 or args.device != 'cpu'):
        parser.error('--clock cpu adds up the time of all threads, so it takes --threads 1 and --device cpu')
    return args


def pairs(num_prefix: int, grid: tuple[int, int]) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Ours and the package's, with the options of the "Vision Xformers" models."""
    tokens, head_dims = num_prefix + grid[0] * grid[1], DIMS // HEADS
    return {
        'nystrom': (
            NystromAttention(DIMS, HEADS, landmarks=64),
            PackageNystromAttention(DIMS, head_dims, HEADS, num_landmarks=64),
        ),
        'performer': (
            PerformerAttention(DIMS, HEADS),
            PackagePerformerAttention(DIMS, heads=HEADS, dim_head=head_dims, qkv_bias=True, attn_out_bias=True),
        ),
        'linformer': (
            LinformerAttention(DIMS, HEADS, grid=grid, num_prefix=num_prefix, projected=64),
            LinformerSelfAttention(DIMS, tokens, k=64, heads=HEADS, one_kv_head=True, share_kv=True),
        ),
    }


def copy_weights(ours: nn.Module, theirs: nn.Module) -> None:
    weights = ours.state_dict()
    for name, tensor in theirs.state_dict().items():
        start = next(start for start in NAMES if name.startswith(start))
        tensor.copy_(weights[NAMES[start] + name.removeprefix(start)])


def make_step(mixer: nn.Module, x: Tensor, training: bool) -> Callable[[], None]:
    """A forward pass without gradients, or, for training, a forward and a backward pass."""
    if training:
        x = x.clone().requires_grad_()

    def step() -> None:
        mixer.train(training)
        with torch.set_grad_enabled(training):
            out = mixer(x)
        if training:
            out.sum().backward()
            mixer.zero_grad()
            x.grad = None

    return step


def peak_mib(step: Callable[[], None], device: str) -> float:
    """Memory of all tensors that the step makes, when it is highest."""
    if device != 'cpu':
        return peak_bytes(step, device) / MIB
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events)) / MIB


def compare(name: str, ours: nn.Module, theirs: nn.Module, x: Tensor, training: bool, args: argparse.Namespace) -> dict:
    a, b = torch.randn(2, MATRIX, MATRIX, device=args.device).unbind()
    steps = [make_step(mixer, x, training) for mixer in (ours, theirs)]
    seconds = interleave([*steps, lambda: torch.mm(a, b)], args.repeats, clock=CLOCKS[args.clock])
    with torch.no_grad():
        difference = (ours(x) - theirs(x)).abs().max().item()
    our_ms, their_ms, matrix_ms = (1e3 * statistics.median(times) for times in seconds)
    our_mib, their_mib = (peak_mib(step, args.device) for step in steps)
    return dict(
        mixer=name,
        tokens=x.shape[1],
        mode='training' if training else 'inference',
        our_ms=round(our_ms, 2),
        their_ms=round(their_ms, 2),
        speed_ratio=round(ratio(seconds[1], seconds[0]), 2),
        our_mib=round(our_mib, 1),
        their_mib=round(their_mib, 1),
        memory_ratio=round(our_mib / their_mib, 2),
        matmul_gflops=round(2 * MATRIX**3 / matrix_ms / 1e6),
        largest_difference=difference,
    )


def show(rows: list[dict]) -> None:
    table = Table(title=f"(4, tokens, {DIMS}), {HEADS} heads: ours / the package's")
    for column in ('mixer', 'tokens', 'mode', 'ms', 'speed', 'MiB', 'memory', 'matmul GFLOP/s'):
        table.add_column(column, justify='left' if column in ('mixer', 'mode') else 'right')
    for row in rows:
        table.add_row(
            row['mixer'],
            str(row['tokens']),
            row['mode'],
            f'{row["our_ms"]:.1f} / {row["their_ms"]:.1f}',
            f'{row["speed_ratio"]:.2f} x',
            f'{row["our_mib"]:.1f} / {row["their_mib"]:.1f}',
            f'{row["memory_ratio"]:.2f} x',
            str(row['matmul_gflops']),
        )
    Console(width=100).print(table)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for num_prefix, grid in GRIDS:
        torch.manual_seed(0)
        x = torch.randn(BATCH, num_prefix + grid[0] * grid[1], DIMS, device=args.device)
        for name, (ours, theirs) in pairs(num_prefix, grid).items():
            copy_weights(ours, theirs)
            ours, theirs = ours.to(args.device), theirs.to(args.device)
            rows += [compare(name, ours, theirs, x, training, args) for training in (False, True)]
    show(rows)
    if args.json:
        result = dict(
            device=torch.cuda.get_device_name() if args.device != 'cpu' else platform.processor() or platform.machine(),
            threads=args.threads,
            repeats=args.repeats,
            clock=args.clock,
            torch=torch.__version__,
            rows=rows,
        )
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()

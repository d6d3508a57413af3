"""Compare our token mixers in speed and memory with packages that compute the same.

    python benchmarks/mixers.py --threads 2 --json benchmarks/cpu/mixers.json

runs our Nyström, Performer and Linformer attention and those of nystrom-attention, performer-pytorch and linformer
with the same weights and input, in turns, so that other load affects both alike. A ratio is the median over the turns.
The product of two 1024 x 1024 matrices, in the same turns, measures the machine.

Memory is the highest sum of all live tensors beyond weights and input: by PyTorch's profiler on the CPU, by its
allocator on a GPU.
"""

import argparse
import itertools
import os
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # silences the profiler's own log
warnings.filterwarnings('ignore', category=DeprecationWarning)

import torch  # noqa: E402
from linformer import LinformerSelfAttention  # noqa: E402
from nystrom_attention import NystromAttention as PackageNystromAttention  # noqa: E402
from performer_pytorch import SelfAttention as PackagePerformerAttention  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xvit_det.benchmark.memory import MIB, peak_bytes  # noqa: E402
from xvit_det.benchmark.record import Record, make_header  # noqa: E402
from xvit_det.benchmark.screen import show_table  # noqa: E402
from xvit_det.benchmark.timing import interleave, median_ratio  # noqa: E402
from xvit_det.cli.common import command  # noqa: E402
from xvit_det.mixers import LinformerAttention, NystromAttention, PerformerAttention  # noqa: E402

BATCH, DIMS, HEADS = 4, 128, 4
GRIDS = ((1, (32, 32)), (0, (64, 64)))  # class tokens and grid: 1025 and 4096 tokens
MATRIX = 1024
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


def pairs(num_prefix: int, grid: tuple[int, int]) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Ours and the package's, with the options of the "Vision Xformers" models and the same weights."""
    tokens, head_dims = num_prefix + grid[0] * grid[1], DIMS // HEADS
    mixers = {
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
    for ours, theirs in mixers.values():
        weights = ours.state_dict()
        for name, tensor in theirs.state_dict().items():
            start = next(start for start in NAMES if name.startswith(start))
            tensor.copy_(weights[NAMES[start] + name.removeprefix(start)])
    return mixers


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
    """The most memory that the step's tensors take at once."""
    if device != 'cpu':
        return peak_bytes(step, device) / MIB
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events)) / MIB


def compare(ours: nn.Module, theirs: nn.Module, x: Tensor, training: bool, repeats: int) -> dict:
    a, b = torch.randn(2, MATRIX, MATRIX, device=x.device).unbind()
    steps = {'ours': make_step(ours, x, training), 'theirs': make_step(theirs, x, training)}
    seconds = interleave({**steps, 'matrix': lambda: torch.mm(a, b)}, repeats)
    ms = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    mib = {name: peak_mib(step, x.device.type) for name, step in steps.items()}
    with torch.no_grad():
        difference = (ours(x) - theirs(x)).abs().max().item()
    return dict(
        our_ms=round(ms['ours'], 2),
        their_ms=round(ms['theirs'], 2),
        speed_ratio=round(median_ratio(seconds['theirs'], seconds['ours']), 2),
        our_mib=round(mib['ours'], 1),
        their_mib=round(mib['theirs'], 1),
        memory_ratio=round(mib['ours'] / mib['theirs'], 2),
        matmul_gflops=round(2 * MATRIX**3 / ms['matrix'] / 1e6),
        largest_difference=difference,
    )


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--repeats', type=int, default=21, help='turns of each mixer')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='where to record the result')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = Record(make_header('mixers', args.device, repeats=args.repeats), args.json, resume=True)
    for num_prefix, grid in GRIDS:
        torch.manual_seed(0)
        x = torch.randn(BATCH, num_prefix + grid[0] * grid[1], DIMS, device=args.device)
        for name, (ours, theirs) in pairs(num_prefix, grid).items():
            ours, theirs = ours.to(args.device), theirs.to(args.device)
            for training in (False, True):
                keys = dict(mixer=name, tokens=x.shape[1], mode='training' if training else 'inference')
                record.add(keys, **compare(ours, theirs, x, training, args.repeats))
    show_table(f"({BATCH}, tokens, {DIMS}), {HEADS} heads: ours and the package's", record.rows)


if __name__ == '__main__':
    main()

"""Is a fused X-ViT-S at least as fast as the plain one, with this CPU's instructions and with AVX2 alone?

    python benchmarks/fused.py --dtype fp32 bf16 --json benchmarks/cpu/fused.json
    ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 \\
        python benchmarks/fused.py --json benchmarks/cpu/fused.json

Plain and fused model take turns. The variables limit oneDNN, MKL (on Intel's CPUs only) and PyTorch's own kernels;
``gflops`` of ``torch.mm`` shows whether they act. A run continues a record.
"""

import argparse
import copy
import itertools
from functools import partial
from pathlib import Path
from statistics import median

import torch

from xvit_det.benchmark.cases import DTYPES, parse_size
from xvit_det.benchmark.models import build, cast
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.cli.common import command
from xvit_det.kernels import linear_trial

MODEL = 'xvit_s'
PRODUCT = 2048  # rows and columns of the matrices whose product shows the machine's speed


@torch.no_grad()
def compare(size: tuple[int, int], dtype: torch.dtype, repeats: int) -> dict:
    """Times of the plain and the fused backbone, and how far apart their maps are."""
    plain = build(MODEL, size).eval()
    fused = copy.deepcopy(plain).fuse()
    image, matrix = torch.randn(1, 3, *size, dtype=dtype), torch.randn(PRODUCT, PRODUCT, dtype=dtype)
    for model in (plain, fused):
        cast(model, dtype)
    (a,), (b,) = plain(image), fused(image)
    steps = dict(plain=partial(plain, image), fused=partial(fused, image), product=partial(torch.mm, matrix, matrix))
    times = interleave(steps, repeats, f'{size}, {dtype}')
    milliseconds = {name: round(median(seconds) * 1e3, 2) for name, seconds in times.items()}
    return dict(
        plain_ms=milliseconds['plain'],
        fused_ms=milliseconds['fused'],
        plain_by_fused=round(median_ratio(times['plain'], times['fused']), 3),
        difference=float(f'{(a - b).norm() / a.norm():.1e}'),
        gflops=round(2 * PRODUCT**3 / milliseconds['product'] / 1e6, 1),
    )


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sizes', nargs='+', default=['224', '800x1344'], metavar='SIZE', help='default: %(default)s')
    parser.add_argument('--dtype', nargs='+', default=['fp32'], choices=['fp32', 'bf16'], help='default: %(default)s')
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--json', type=Path, help='where to record the results; continued if it exists')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    header = make_header('fused', 'cpu', model=MODEL, repeats=args.repeats)
    header['device'], _, instructions = header['device'].rpartition(', ')  # each row has its own
    record = Record(header, args.json, resume=True)
    for name, size in itertools.product(args.dtype, args.sizes):
        dtype = getattr(torch, DTYPES[name])
        trial = round(linear_trial.speedup(dtype, args.threads), 2)
        results = compare(parse_size(size), dtype, args.repeats)
        record.add(dict(instructions=instructions, dtype=name, size=size), **results, onednn_trial=trial)
    show_table('Plain and fused, in turns', record.rows)


if __name__ == '__main__':
    main()

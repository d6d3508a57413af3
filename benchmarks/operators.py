"""How fast are the operations that detectors share, as this package computes them on a CPU?

    python benchmarks/operators.py --threads 2 --json benchmarks/cpu/operators.json
    ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 \\
        python benchmarks/operators.py --threads 2 --json benchmarks/cpu/operators.json

Convolutions of 3 x 3 after Winograd beside PyTorch's, and RoIAlign as a sparse product beside torchvision's, with the
shapes that Mask R-CNN has for an image of 800 x 1344. They and a matrix product, ``gflops``, take turns.
Results are added to an existing record.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.cli.common import command
from xvit_det.compat.ops.roi_align import roi_align_backward, roi_align_forward
from xvit_det.kernels import winograd

CHANNELS = 256
# Batch, height and width of the maps: of FPN and RPN, and of the mask head for 100 objects.
CONVOLVED = [(1, 200, 336), (1, 100, 168), (1, 50, 84), (1, 25, 42), (100, 14, 14)]
# Regions, bins along a side, stride of the map: of the box head in a test and a training step, and of the mask head.
POOLED = [(1000, 7, 4), (512, 7, 8), (100, 14, 4)]
IMAGE = 800, 1344
PRODUCT = 2048  # rows and columns of the matrices whose product shows the machine's speed

Pair = tuple[Callable[[], Tensor], Callable[[], Tensor]]


def channels_last(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


def convolution(batch: int, height: int, width: int) -> Pair:
    """PyTorch's and ours."""
    x, weight = channels_last(batch, CHANNELS, height, width), channels_last(CHANNELS, CHANNELS, 3, 3) / 48
    bias, filters = torch.randn(CHANNELS), winograd.transform_filters(weight)
    return lambda: F.conv2d(x, weight, bias, padding=1), lambda: winograd.convolve(x, filters, bias)


def regions(number: int, stride: int) -> Tensor:
    """Random regions of the sizes that an FPN pools from the map of a stride, (K, 5)."""
    limits = torch.tensor([IMAGE[1], IMAGE[0]])
    side = torch.empty(number, 2).uniform_(14, 28) * stride
    corner = torch.rand(number, 2) * (limits - side)
    return torch.cat([torch.zeros(number, 1), corner, corner + side], dim=1)


def pooling(number: int, bins: int, stride: int, backward: bool) -> Pair:
    """torchvision's and ours."""
    maps, rois = channels_last(1, CHANNELS, IMAGE[0] // stride, IMAGE[1] // stride), regions(number, stride)
    pooled = torch.randn(number, CHANNELS, bins, bins)
    sizes = dict(aligned_height=bins, aligned_width=bins, spatial_scale=1 / stride, sampling_ratio=0, aligned=True)

    def ours() -> Tensor:
        given, result = (pooled, torch.zeros(maps.shape)) if backward else (maps, torch.empty_like(pooled))
        function = roi_align_backward if backward else roi_align_forward
        wanted = (rois, maps[:0], maps[:0], result) if backward else (rois, result, maps[:0], maps[:0])
        function(given, *wanted, **sizes, pool_mode=1)
        return result

    def theirs() -> Tensor:
        if backward:
            return torch.ops.torchvision._roi_align_backward(pooled, rois, 1 / stride, bins, bins, *maps.shape, 0, True)
        return torchvision.ops.roi_align(maps, rois, (bins, bins), 1 / stride, 0, aligned=True)

    return theirs, ours


def cases() -> dict[tuple[str, str], Pair]:
    convolutions = {('conv 3 x 3', f'{b} x {CHANNELS} x {h} x {w}'): convolution(b, h, w) for b, h, w in CONVOLVED}
    pools = {
        (f'RoIAlign, {"backward" if backward else "forward"}', f'{k} regions, {n} x {n}, stride {stride}'): pooling(
            k, n, stride, backward
        )
        for k, n, stride in POOLED
        for backward in (False, True)
    }
    return convolutions | pools


@command
@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=9)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--json', type=Path, help='where to record the results; continued if it exists')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    header = make_header('operators', 'cpu', repeats=args.repeats)
    header['device'], _, instructions = header['device'].rpartition(', ')  # each row has its own
    record = Record(header, args.json, resume=True)
    matrix = torch.randn(PRODUCT, PRODUCT)
    for (operation, shape), (theirs, ours) in cases().items():
        a, b = theirs(), ours()
        steps = dict(theirs=theirs, ours=ours, product=lambda: matrix @ matrix)
        times = interleave(steps, args.repeats, f'{operation}, {shape}')
        record.add(
            dict(instructions=instructions, operation=operation, shape=shape),
            theirs_ms=round(median(times['theirs']) * 1e3, 2),
            ours_ms=round(median(times['ours']) * 1e3, 2),
            theirs_by_ours=round(median_ratio(times['theirs'], times['ours']), 2),
            difference=float(f'{(a - b).norm() / a.norm():.1e}'),
            gflops=round(2 * PRODUCT**3 / median(times['product']) / 1e9, 1),
        )
    show_table('Theirs and ours, in turns', record.rows)


if __name__ == '__main__':
    main()

"""Does every backbone with every token mixer compute the same in onnxruntime, at every size of images?

    python benchmarks/export_backbones.py --json benchmarks/cpu/export_backbones.json

exports a small variant of each, fp32 and fp16, and compares with PyTorch for a square batch of two, for 800 x 1333, and
for an odd size. The difference is the largest of an output, relative to the largest value in it. A run continues a
record.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from xvit_det.backbones import Backbone
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.deploy.export import export_backbone, fixed_size
from xvit_det.deploy.smaller import to_half
from xvit_det.errors import InputError
from xvit_det.mixers import MIXERS

sys.path.insert(0, str(Path(__file__).parent))

from small_backbones import FAMILIES, build  # noqa: E402

SHAPES = {'224x224, two': (2, 3, 224, 224), '800x1333': (1, 3, 800, 1333), '201x267': (1, 3, 201, 267)}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--families', nargs='+', choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument('--mixers', nargs='+', default=sorted(MIXERS))
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='where to record the result')
    return parser.parse_args()


def difference(session: onnxruntime.InferenceSession, x: torch.Tensor, expected: list[torch.Tensor]) -> float:
    found = session.run(None, dict(images=x.numpy()))
    return max(
        float(np.abs(a - b.numpy()).max() / b.abs().max()) if np.isfinite(a).all() else float('inf')
        for a, b in zip(found, expected, strict=True)
    )


def compare(net: Backbone, folder: Path, threads: int) -> dict[str, float]:
    """The differences of an exported backbone by the size of images, in fp32 and in fp16."""
    files = {'fp32': folder / 'fp32.onnx', 'fp16': folder / 'fp16.onnx'}
    export_backbone(net, files['fp32'])
    to_half(files['fp32'], files['fp16'])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions = {
        dtype: onnxruntime.InferenceSession(file, options, providers=['CPUExecutionProvider'])
        for dtype, file in files.items()
    }
    only = fixed_size(net)
    results = {}
    for name, shape in SHAPES.items():
        if not only or list(shape[2:]) == only:
            x = torch.randn(shape)
            with torch.no_grad():
                expected = list(net(x))
            for dtype, session in sessions.items():
                results[f'{dtype}, {name}'] = float(f'{difference(session, x, expected):.2g}')
    return results


@command
def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    header = make_header('export_backbones', 'cpu', onnxruntime=onnxruntime.__version__)
    record = Record(header, args.json, resume=True)
    for family in args.families:
        for mixer in args.mixers:
            keys = dict(backbone=family, mixer=mixer)
            if record.find(keys):
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    record.add(keys, **compare(build(family, mixer), Path(folder), args.threads))
                except InputError as error:  # a mixer that this backbone does not take
                    record.add(keys, not_possible=str(error))
            print(record.rows[-1], flush=True)
    show_table('Exported backbones', record.rows)


if __name__ == '__main__':
    main()

"""Train torchvision's Mask R-CNN with X-ViT on Shapes: does the training loop of docs/interop.md reach a good mAP?

    python benchmarks/torchvision_shapes.py --json benchmarks/cpu/torchvision_shapes.json

runs the page's code ("Train on your data") as it stands there, in the work folder, where the images are drawn first. An
interrupted training continues after its last epoch.
"""

import argparse
import os
import re
import time
from pathlib import Path

import torch

from xvit_det.analysis import count_parameters
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.datasets.shapes import ShapesSpec, ensure_shapes

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'interop.md'
SEED = 0


def training_loop() -> str:
    """The page's code."""
    (code,) = re.findall(r'^### Train on your data\n.*?```python\n(.*?)```', PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return code


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/torchvision_shapes'), help='images, checkpoint'
    )
    parser.add_argument('--json', type=Path, help='where to record the result')
    args = parser.parse_args()
    spec = ShapesSpec()
    header = make_header('torchvision_shapes', 'cpu', images=spec.num_train, seed=SEED)
    record = Record(header, args.json and args.json.resolve(), resume=True)  # before the training, which takes long
    ensure_shapes(args.work_dir / 'data' / 'shapes', spec)
    os.chdir(args.work_dir)
    torch.manual_seed(SEED)
    start, page = time.process_time(), {}
    exec(compile(training_loop(), PAGE, 'exec'), page)
    done = page['done']  # epochs of an interrupted training, whose time is not known
    record.add(
        dict(detector='Mask R-CNN', epochs=page['epochs']),
        parameters=count_parameters(page['model']),
        box_map=round(float(page['mean_ap']['bbox']), 3),
        mask_map=round(float(page['mean_ap']['segm']), 3),
        cpu_seconds=None if done else round(time.process_time() - start),
    )
    show_table('Shapes', record.rows)


if __name__ == '__main__':
    main()

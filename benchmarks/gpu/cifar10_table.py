"""Compare the accuracy of the models trained by ``run.py cifar10`` with the paper's.

    python benchmarks/gpu/cifar10_table.py benchmarks/gpu/results/cifar10 --json cifar10.json

reads the logs of the work directories in a folder, one per model. As in the paper, the best epoch on the test images
counts, which flatters both.
"""

import argparse
import json
from pathlib import Path

import torch
from mmengine.config import Config

from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.errors import InputError
from xvit_det.hub import find_config


def read_log(folder: Path) -> list[dict]:
    """The log of a work directory; a run that was interrupted and resumed has several files."""
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--json', type=Path, help='where to record the result')
    args = parser.parse_args()
    record = Record(make_header('cifar10', 'cuda' if torch.cuda.is_available() else 'cpu'), args.json, resume=True)
    for folder in sorted(args.folder.iterdir()):
        log = read_log(folder)
        epochs = {line['step']: line for line in log if 'accuracy/top1' in line}
        if not epochs:
            continue
        best = max(epochs.values(), key=lambda line: line['accuracy/top1'])
        paper = Config.fromfile(find_config(f'{folder.name}_cifar10')).get('paper', {})
        record.add(
            dict(model=folder.name),
            epochs=len(epochs),
            best_epoch=best['step'],
            top1=round(best['accuracy/top1'], 2),
            top5=round(best['accuracy/top5'], 2),
            paper_top1=paper.get('top1'),
            paper_top5=paper.get('top5'),
            memory_mib=max((line['memory'] for line in log if 'memory' in line), default=None),
        )
    if not record.rows:
        raise InputError(f'no work directory in {args.folder} has an evaluated epoch')
    show_table('Top-1 and top-5 accuracy in percent', record.rows)


if __name__ == '__main__':
    main()

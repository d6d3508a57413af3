"""What the models trained by ``run.py cifar10`` reach, beside the paper's figures.

    python benchmarks/gpu/cifar10_table.py benchmarks/gpu/results/cifar10 --json cifar10.json

reads the logs of the work directories in a folder, one for each model. As in the paper, the best epoch on the test
pictures counts, which flatters both.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmengine.config import Config  # noqa: E402

from xvit_det.benchmark.screen import show_table  # noqa: E402
from xvit_det.hub import find_config  # noqa: E402


def read(folder: Path) -> dict | None:
    """The best epoch of a work directory, whose training may have been cut off and continued several times."""
    lines = [
        json.loads(line)
        for path in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]
    epochs = {line['step']: line for line in lines if 'accuracy/top1' in line}
    if not epochs:
        return None
    best = max(epochs.values(), key=lambda line: line['accuracy/top1'])
    paper = Config.fromfile(find_config(f'{folder.name}_cifar10')).get('paper', {})
    return dict(
        model=folder.name,
        epochs=len(epochs),
        best_epoch=best['step'],
        top1=round(best['accuracy/top1'], 2),
        top5=round(best['accuracy/top5'], 2),
        paper_top1=paper.get('top1'),
        paper_top5=paper.get('top5'),
        memory_mib=max((line['memory'] for line in lines if 'memory' in line), default=None),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    rows = [row for folder in sorted(args.folder.iterdir()) if (row := read(folder))]
    if not rows:
        sys.exit(f'no work directory in {args.folder} has an evaluated epoch')
    show_table('Top-1 and top-5 accuracy in percent', tuple(rows[0]), [tuple(row.values()) for row in rows])
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + '\n')


if __name__ == '__main__':
    main()

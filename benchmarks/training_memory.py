"""How much memory does one training step of each model in the "Vision Xformers" paper's Table 1 take?

    python benchmarks/training_memory.py --batch-size 8 --json benchmarks/cpu/training_memory.json

runs two steps with AdamW on random 32 x 32 pictures for each model, in a process of its own. Memory is what the steps
take beyond the model's weights: the process's peak (Linux), or on a GPU that of PyTorch's allocator. The softmax models
appear twice, with the attention matrix of the formula, as in the paper, and with PyTorch's fused attention, which does
not hold it. The picture shows the result beside the figures that the paper gives.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from xvit_det import create_model  # noqa: E402
from xvit_det.benchmark.memory import peak_bytes, run_apart  # noqa: E402
from xvit_det.hub import find_config  # noqa: E402

MODELS = ('vit', 'vip', 'vil', 'vin', 'fnet', 'mixer')
# config, attention: the rows of the table, ViT twice
ROWS = [
    (f'{stem}{model}_cifar10', attention)
    for stem in ('', 'hybrid_')
    for model in MODELS
    for attention in (('matrix', 'fused') if model == 'vit' else ('',))
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch-size', type=int, default=64, help='pictures; the paper has 64')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='where to record the result; the picture goes beside it')
    return parser.parse_args()


def measure(config: str, attention: str, batch_size: int, device: str) -> int:
    """Train this one model for two steps; the second has the optimiser's moments too. Bytes."""
    torch.manual_seed(0)
    images = torch.randn(batch_size, 3, 32, 32, device=device)
    labels = torch.randint(10, (batch_size,), device=device)
    mixer = dict(type='softmax', fused=attention == 'fused')
    model = create_model(config, **(dict(backbone=dict(mixer=mixer)) if attention else {})).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def train() -> None:
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()

    return peak_bytes(train, device)


def measure_row(config: str, attention: str, args: argparse.Namespace) -> dict:
    """:func:`measure` in a fresh process, beside the paper's figure."""
    peak = run_apart(measure, config, attention, args.batch_size, args.device)
    paper = Config.fromfile(find_config(config)).paper
    names = {'matrix': ' with its matrix', 'fused': ' fused', '': ''}
    row = dict(model=paper['model'] + names[attention], gb=round(peak / 1e9, 3))
    # The paper's softmax models held the matrix.
    row['paper_gb_batch64'] = None if attention == 'fused' else paper['gpu_gb_batch64']
    return row


def draw(rows: list[dict], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    places = range(len(rows))
    figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(10, 5), layout='constrained')
    left.bar_label(left.barh(places, [row['gb'] for row in rows], color='tab:blue'), fmt='%.2f', padding=2)
    given = [(place, row['paper_gb_batch64']) for place, row in zip(places, rows, strict=True)]
    given = [(place, gb) for place, gb in given if gb is not None]
    right.bar_label(right.barh(*zip(*given, strict=True), color='tab:gray'), fmt='%.1f', padding=2)
    left.set_title(title)
    right.set_title("the paper's figures: GPU, batch 64")
    left.set_yticks(places, [row['model'] for row in rows])
    left.invert_yaxis()
    for axes in (left, right):
        axes.set_xlabel('GB')
        axes.margins(x=0.12)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120)


def show(rows: list[dict], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table('model', title=f'Peak of a training step, GB: {title}')
    for column in ('measured', 'paper, GPU, batch 64'):
        table.add_column(column, justify='right')
    for row in rows:
        table.add_row(row['model'], f'{row["gb"]:.2f}', str(row['paper_gb_batch64'] or ''))
    Console().print(table)


def main() -> None:
    args = parse_args()
    name = torch.cuda.get_device_name() if args.device != 'cpu' else platform.processor() or platform.machine()
    title = f'measured: {args.device.upper() if args.device == "cpu" else name}, batch {args.batch_size}'
    rows = [measure_row(config, attention, args) for config, attention in ROWS]
    show(rows, title)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = dict(device=name, batch_size=args.batch_size, torch=torch.__version__, rows=rows)
        args.json.write_text(json.dumps(result, indent=1) + '\n')
        draw(rows, title, args.json.with_suffix('.png'))


if __name__ == '__main__':
    main()

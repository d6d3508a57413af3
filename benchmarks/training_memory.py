"""Measure the memory of a training step of each model in the "Vision Xformers" paper's Table 1.

    python benchmarks/training_memory.py --batch-size 8 --json benchmarks/cpu/training_memory.json

runs two steps with AdamW on random 32 x 32 images for each model, in a process of its own. Memory is the peak beyond
the model's weights: the process's (Linux), or on a GPU that of PyTorch's allocator. The softmax models appear twice:
with an explicit attention matrix, as in the paper, and with PyTorch's fused attention, which does not store it. The
plot shows the result beside the paper's figures.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from torch.nn.functional import cross_entropy

from xvit_det import create_model
from xvit_det.benchmark.memory import peak_bytes, run_apart
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import progress, show_table
from xvit_det.cli.common import command
from xvit_det.hub import find_config

MODELS = ('vit', 'vip', 'vil', 'vin', 'fnet', 'mixer')
# config, attention: the rows of the table, ViT twice
ROWS = [
    (f'{stem}{model}_cifar10', attention)
    for stem in ('', 'hybrid_')
    for model in MODELS
    for attention in (('with its matrix', 'fused') if model == 'vit' else ('',))
]


def measure(config: str, attention: str, batch_size: int, device: str) -> int:
    """Peak bytes of two training steps; the second has the optimizer's moments as well."""
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


def draw(record: Record, path: Path) -> None:
    rows, header = record.rows, record.header
    figure = Figure(figsize=(10, 5), layout='constrained', dpi=120)
    panels = {
        f'measured: {header["device"]}, batch {header["batch_size"]}': 'gb',
        "the paper's figures: GPU, batch 64": 'paper_gb_batch64',
    }
    for axes, (title, key) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
        values = [row[key] or 0 for row in rows]
        bars = axes.barh([row['model'] for row in rows], values, color='tab:blue' if key == 'gb' else 'tab:gray')
        axes.bar_label(bars, [f'{value:.3g}' if value else '' for value in values], padding=2)
        axes.set(title=title, xlabel='GB')
        axes.margins(x=0.12)
        axes.spines[['top', 'right']].set_visible(False)
    axes.invert_yaxis()
    figure.savefig(path)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch-size', type=int, default=64, help='images; the paper has 64')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--json', type=Path, help='where to record the result, and a plot beside it')
    args = parser.parse_args()
    header = make_header('training_memory', args.device, batch_size=args.batch_size)
    record = Record(header, args.json, resume=True)
    for config, attention in progress(ROWS, 'models'):
        peak = run_apart(measure, config, attention, args.batch_size, args.device)
        paper = Config.fromfile(find_config(config)).paper
        # The paper's softmax models stored the matrix.
        paper_gb = None if attention == 'fused' else paper['gpu_gb_batch64']
        name = f'{paper["model"]} {attention}'.strip()
        record.add(dict(model=name), gb=round(peak / 1e9, 3), paper_gb_batch64=paper_gb)
    show_table('Peak memory of a training step in GB', record.rows)
    if args.json:
        draw(record, args.json.with_suffix('.png'))


if __name__ == '__main__':
    main()

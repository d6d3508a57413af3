"""Do thousands of training steps in bf16 and fp16 stay finite, and does the loss fall as in fp32?

    python benchmarks/amp_training.py --json benchmarks/cpu/amp_training.json

trains small backbones with a linear classifier for 2,000 steps of AdamW. Each image is one of ten random patterns,
shifted at random (around the border) and covered by as much noise. fp16 has a ``GradScaler``; ``skipped`` are the
steps that it left out because a gradient was not finite, as it does while it looks for its scale. A run continues a
record.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import progress, show_table
from xvit_det.cli.common import command

sys.path.insert(0, str(Path(__file__).parent))

from small_backbones import build  # noqa: E402

MODELS = {
    'X-ViT': ('XViT', 'xnorm'),
    'ViX, Performer': ('ViX', 'performer'),
    'ViX, Nyström': ('ViX', 'nystrom'),
}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
CLASSES, SIDE, PATCH, BATCH = 10, 32, 8, 16


def draw(patterns: Tensor, generator: torch.Generator, number: int = BATCH) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) and their classes (B,)."""
    labels = torch.randint(CLASSES, (number,), generator=generator)
    shifts = torch.randint(SIDE, (number, 2), generator=generator).tolist()
    images = torch.stack([patterns[k].roll(shift, (1, 2)) for k, shift in zip(labels, shifts, strict=True)])
    return images + torch.randn(images.shape, generator=generator), labels


def train(model: str, dtype: torch.dtype, steps: int) -> dict:
    """Train one model; its mean loss at the start and the end, and what became of it."""
    generator = torch.Generator().manual_seed(0)
    patterns = F.interpolate(torch.randn(CLASSES, 3, 8, 8, generator=generator), size=SIDE, mode='bilinear')
    patterns = patterns / patterns.std()
    backbone = build(*MODELS[model], out_type='avg_featmap', patch_size=PATCH)
    net = nn.Sequential(backbone, _First(), nn.Linear(backbone.out_channels[0], CLASSES)).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05)
    scaler = torch.amp.GradScaler('cpu', enabled=dtype == torch.float16)
    losses, skipped = [], 0
    for _ in progress(range(steps), model):
        images, labels = draw(patterns, generator)
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            loss = F.cross_entropy(net(images).float(), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scale = scaler.get_scale()
        scaler.update()
        skipped += scaler.get_scale() < scale
        losses.append(loss.item())
    images, labels = draw(patterns, generator, 500)
    with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        found = net.eval()(images).argmax(dim=1)
    part = max(1, min(100, steps // 10))
    return dict(
        finite=all(map(math.isfinite, losses)) and all(bool(p.isfinite().all()) for p in net.parameters()),
        first_loss=round(statistics.fmean(losses[:part]), 3),
        last_loss=round(statistics.fmean(losses[-part:]), 3),
        accuracy=(found == labels).float().mean().item(),
        skipped=skipped,
        last_scale=scaler.get_scale(),
    )


class _First(nn.Module):
    def forward(self, outs: tuple[Tensor, ...]) -> Tensor:
        return outs[0]


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS))
    parser.add_argument('--dtypes', nargs='+', choices=DTYPES, default=list(DTYPES))
    parser.add_argument('--steps', type=int, default=2000)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='where to record the result')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = Record(make_header('amp_training', 'cpu', steps=args.steps), args.json, resume=True)
    for model in args.models:
        for dtype in args.dtypes:
            keys = dict(model=model, dtype=dtype)
            if not record.find(keys):
                record.add(keys, **train(model, DTYPES[dtype], args.steps))
    show_table(f'{args.steps} steps of training', record.rows)


if __name__ == '__main__':
    main()

"""Does every backbone with every token mixer stay finite and near fp32 under autocast, forward and backward?

    python benchmarks/precision.py --json benchmarks/cpu/precision.json

takes a training step of a small variant of each, in bf16 and fp16, with images of zero mean and of mean 100, and in
fp32 and bf16 with images of only zeros and only ones. ``maps`` and ``gradients`` are the norms of the differences to
fp32, relative to fp32's: of the worst map, and of all gradients together; ``input`` is that of the maps if only the
image is rounded. fp16 scales the loss as ``GradScaler`` does, from 65,536 down by halves. ``--models ViX/performer``
measures a part, ``--without unit_vectors`` what happens without a safeguard. A run continues a record.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from xvit_det.backbones import Backbone
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.errors import InputError
from xvit_det.mixers import MIXERS, token_mixers

sys.path.insert(0, str(Path(__file__).parent))

from small_backbones import FAMILIES, build  # noqa: E402

LEFT_OUT = ('XViT, fused', 'ViX, hybrid')  # no gradients; the stem is that of XViT and LeViX
MODELS = [f'{family}/{mixer}' for family in FAMILIES if family not in LEFT_OUT for mixer in sorted(MIXERS)]
SIZES = {'224x224': (2, 3, 224, 224), '800x1344': (1, 3, 800, 1344)}
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
# Images, and the dtypes to try. Blank images have no variance: BatchNorm multiplies their gradients by 316 in every
# layer of a stem, beyond the range of fp16. GradScaler skips such a step.
INPUTS = {
    'normal': (torch.randn, ('bf16', 'fp16')),
    'mean 100': (lambda *shape: torch.randn(*shape) + 100, ('bf16', 'fp16')),
    'zeros': (torch.zeros, ('fp32', 'bf16')),
    'ones': (torch.ones, ('fp32', 'bf16')),
    'large q, k, v': (torch.randn, ('bf16', 'fp16')),  # as 'normal', with these weights 30 times as large
}
CASES = [('224x224', kind) for kind in INPUTS]
CASES += [('800x1344', 'normal'), ('800x1344', 'mean 100')]
# Without the map that is max-pooled: rounding changes which of four tokens is the largest, and with it 2 to 10 % of all
# gradients, which says nothing about a mixer.
OUTPUTS = dict(out_indices=(0, 1, 3), out_strides=(4, 8, 16))
OPTIONS = {'CvX': dict(patch_size=16)}  # 4,200 tokens at 800 x 1344, as the others have
# What computes in fp32, and what a mixer would do instead.
SAFEGUARDS: dict[str, dict[str, Callable]] = {
    'unit_vectors': {
        f'xvit_det.mixers.{mixer}.unit_vectors': lambda x, dim: x / x.square().sum(dim, keepdim=True).sqrt()
        for mixer in ('xnorm', 'xca')
    },
    'performer': {
        'xvit_det.mixers.performer.upcast': lambda x: x,
        'xvit_det.mixers.performer.without_autocast': lambda x: nullcontext(),
    },
}


def step(net: Backbone, x: Tensor, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor], float]:
    """Maps and gradients of the image and the weights, in training mode, and the scale of the loss that they fit."""
    inputs = [x.requires_grad_(), *net.train().parameters()]
    scale = 2.0**16 if dtype == torch.float16 else 1.0
    while True:
        with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
            maps = net(x)
        generator = torch.Generator().manual_seed(1)
        loss = sum((m.float() * torch.randn(m.shape, generator=generator)).mean() for m in maps)
        gradients = [g.float() / scale for g in torch.autograd.grad(loss * scale, inputs)]
        if scale == 1 or all_finite(gradients) or not all_finite(maps):
            return [m.detach().float() for m in maps], gradients, scale
        scale /= 2


def all_finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)


def error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The norm of the difference, relative to what is expected, of all tensors together."""
    found, expected = (torch.cat([t.flatten() for t in tensors]) for tensors in (found, expected))
    return float(f'{(found - expected).norm() / expected.norm().clamp(min=1e-30):.2g}')


def worst_map(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max(error([a], [b]) for a, b in zip(found, expected, strict=True))


def enlarge(net: Backbone) -> None:
    """Make queries, keys and values 30 times as large, which trained models may reach and random weights do not."""
    for mixer in token_mixers(net).values():
        for name, weight in mixer.named_parameters():
            if name.split('.')[0] in ('q', 'k', 'v', 'kv', 'qkv') and weight.ndim == 2:
                weight.data.mul_(30)


def measure(model: str, size: str, kind: str, record: Record, without: str = '') -> None:
    """Add the rows of one model and input in every dtype."""
    family, mixer = model.split('/')
    shape = SIZES[size]
    fixed = dict(img_size=shape[2:]) if mixer == 'mlp' and family != 'XViT' else {}
    net = build(family, mixer, **OUTPUTS, **OPTIONS.get(family, {}), **fixed)
    if kind == 'large q, k, v':
        enlarge(net)
    draw, dtypes = INPUTS[kind]
    x = draw(*shape)
    exact = step(net, x, torch.float32)
    for name in dtypes:
        dtype = DTYPES[name]
        with ExitStack() as patches:
            for target, naive in SAFEGUARDS.get(without, {}).items():
                patches.enter_context(mock.patch(target, naive))
            maps, gradients, scale = step(net, x, dtype)
        finite = all_finite(maps) and all_finite(gradients)
        results = dict(finite=finite, maps=worst_map(maps, exact[0]), gradients=error(gradients, exact[1]))
        with torch.no_grad():
            rounded = net(x.to(dtype).float())
        results |= dict(input=worst_map(rounded, exact[0]), loss_scale=scale)
        record.add(dict(backbone=family, mixer=mixer, dtype=name, size=size, images=kind, without=without), **results)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', choices=MODELS, default=MODELS, metavar='BACKBONE/MIXER')
    parser.add_argument('--without', choices=SAFEGUARDS, default='', help='compute without one of the safeguards')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', type=Path, help='where to record the result')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = Record(make_header('precision', 'cpu'), args.json, resume=True)
    for model in args.models:
        for size, kind in (
            CASES[:-2] if model.endswith('mlp') else CASES
        ):  # an MLP over 4,200 tokens has 35 million weights
            keys = dict(zip(('backbone', 'mixer'), model.split('/'), strict=True)) | dict(
                size=size, images=kind, without=args.without
            )
            if record.find(keys | dict(dtype=INPUTS[kind][1][-1])):
                continue
            try:
                measure(model, size, kind, record, args.without)
            except InputError as refusal:  # a mixer that this backbone does not take
                print(f'{model}: {refusal}', flush=True)
                break
        print(model, flush=True)
    show_table('Training steps beside fp32', record.rows)


if __name__ == '__main__':
    main()

"""Train every mixer on tasks that do and do not need one, then break it and measure again: what is each one worth?

    python benchmarks/which_mixer.py --json benchmarks/cpu/which_mixer.json
    python benchmarks/which_mixer.py --json benchmarks/cpu/which_mixer.json --cost

The first command trains small models from scratch, one for each task, mixer and seed, in one thread, and scores them on
data they have not seen. Where a task has a level to reach, training ends there. Then the outputs of all mixers of the
trained model are replaced by zero, and by their mean over the data: a score that stays shows that the model did not use
them. What an earlier run left in the JSON file is kept, so that an interrupted run goes on. The second command adds
what a training step costs, measured in turns.

The score is the mean recall over the classes that matter: of C such classes, guessing gets 1 / C.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xvit_det.benchmark.memory import MIB, peak_bytes, run_apart
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.cli.common import command
from xvit_det.errors import InputError
from xvit_det.mixers import IdentityMixer, TokenMixer

sys.path.insert(0, str(Path(__file__).parent))

from mixer_plots import draw  # noqa: E402
from mixer_tasks import IGNORED, TASKS, Batch  # noqa: E402

REPEATS = 11  # timed turns


@dataclass(frozen=True)
class Variant:
    """A mixer with its options, and how its training differs from the others'.

    Args:
        mixer: Name and options.
        prepare: Changes the model before it trains.
        lr: Learning rate, as a multiple of the task's.
        gamma_lr: Learning rate of XNorm's gammas, as a multiple of the others'.
        warmup: Steps in which the learning rate rises.
    """

    mixer: dict[str, Any]
    prepare: Callable[[nn.Module], object] = lambda model: None
    lr: float = 1.0
    gamma_lr: float = 1.0
    warmup: int = 0


def xnorm(**options: Any) -> dict[str, Any]:
    return dict(type='xnorm', **options)


# Few tokens need few landmarks; without its convolution, Nyström attention connects tokens by attention alone.
MIXERS = {
    'none': Variant(dict(type='identity')),
    'softmax': Variant(dict(type='softmax')),
    'xca': Variant(dict(type='xca')),
    'xnorm': Variant(xnorm()),
    'xnorm_narrow': Variant(xnorm(attn_dims=48)),
    'performer': Variant(dict(type='performer')),
    'performer_eps': Variant(dict(type='performer', eps=1e-9)),
    'nystrom': Variant(dict(type='nystrom', landmarks=16, conv_kernel=None)),
    'linformer': Variant(dict(type='linformer', projected=16)),
    'fourier': Variant(dict(type='fourier')),
    'mlp': Variant(dict(type='mlp')),
}


def scaled(part: str, factor: float) -> Callable[[nn.Module], None]:
    """Multiplies a projection of all mixers, ``'qkv'`` or ``'proj'``, at the start."""

    @torch.no_grad()
    def prepare(model: nn.Module) -> None:
        for mixer in mixers_of(model):
            mixer.get_submodule(part).weight *= factor

    return prepare


@torch.no_grad()
def small_start(model: nn.Module) -> None:
    """The start of X-ViT and DeiT for all linear layers, in the place of PyTorch's, which is three times as large."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# What might make XNorm learn faster or slower: `--mixers` takes these names, too.
STUDY = {
    'xnorm_gamma_3': Variant(xnorm(gamma=3.0)),
    'xnorm_gamma_10': Variant(xnorm(gamma=10.0)),
    'xnorm_gamma_none': Variant(xnorm(gamma=None)),
    'xnorm_gamma_lr_10': Variant(xnorm(), gamma_lr=10.0),
    'xnorm_kv_axis_-1': Variant(xnorm(kv_axis=-1)),
    'xnorm_heads_1': Variant(xnorm(num_heads=1)),
    'xnorm_heads_2': Variant(xnorm(num_heads=2)),
    'xnorm_heads_8': Variant(xnorm(num_heads=8)),
    'xnorm_heads_12': Variant(xnorm(num_heads=12)),
    'xnorm_wide': Variant(xnorm(attn_dims=192)),
    'xnorm_warmup_100': Variant(xnorm(), warmup=100),
    'xnorm_qkv_x3': Variant(xnorm(), scaled('qkv', 3)),
    'xnorm_qkv_x0.33': Variant(xnorm(), scaled('qkv', 1 / 3)),
    'xnorm_proj_x3': Variant(xnorm(), scaled('proj', 3)),
    'xnorm_proj_x0.1': Variant(xnorm(), scaled('proj', 0.1)),
    'xnorm_start_0.02': Variant(xnorm(), small_start),
    'softmax_start_0.02': Variant(dict(type='softmax'), small_start),
    'xca_start_0.02': Variant(dict(type='xca'), small_start),
    'xnorm_start_0.02_warmup_100': Variant(xnorm(), small_start, warmup=100),
    'xnorm_qkv_x3_lr_x4': Variant(xnorm(), scaled('qkv', 3), lr=4.0),
    'xnorm_lr_x0.3': Variant(xnorm(), lr=0.3),
    'xnorm_lr_x2': Variant(xnorm(), lr=2.0),
    'xnorm_lr_x4': Variant(xnorm(), lr=4.0),
    'xnorm_lr_x4_warmup_100': Variant(xnorm(), lr=4.0, warmup=100),
    'softmax_lr_x0.3': Variant(dict(type='softmax'), lr=0.3),
    'softmax_lr_x2': Variant(dict(type='softmax'), lr=2.0),
    'softmax_lr_x4': Variant(dict(type='softmax'), lr=4.0),
    'xca_lr_x4': Variant(dict(type='xca'), lr=4.0),
    'performer_eps_lr_x4': Variant(dict(type='performer', eps=1e-9), lr=4.0),
}


def train(task: Any, variant: Variant, seed: int) -> dict[str, Any]:
    """Train a model to its last step, or to the task's level if it stops there, and score it whole and broken."""
    torch.manual_seed(seed)
    model = task.model(variant.mixer)
    variant.prepare(model)
    gammas = [p for name, p in model.named_parameters() if 'gamma_' in name]
    others = [p for name, p in model.named_parameters() if 'gamma_' not in name]
    lr = variant.lr * task.lr
    groups = [dict(params=others), dict(params=gammas, lr=variant.gamma_lr * lr)]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / (variant.warmup + 1)))
    curve: list[tuple[int, float]] = []
    reached = None
    for number, batch in zip(range(1, task.steps + 1), task.batches(seed), strict=False):
        model.train()
        optimizer.zero_grad()
        step(model, batch)
        optimizer.step()
        scheduler.step()
        if number % task.every == 0:
            curve.append((number, score(model, task)))
            if reached is None and curve[-1][1] >= task.level:
                reached = number
                if task.stops:
                    break
    results: dict[str, Any] = dict(score=curve[-1][1], steps_to_level=reached)
    for kind in ('zeroed', 'averaged'):
        with broken(model, task, kind):
            results[kind] = score(model, task)
    return results | dict(curve=curve)


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    inputs, labels = batch
    with torch.autocast('cpu', torch.bfloat16):
        logits = model(inputs)
    return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def score(model: nn.Module, task: Any) -> float:
    """Mean recall over the task's scored classes."""
    model.eval()
    hits, total = torch.zeros(2, max(task.scored) + 1)
    for inputs, labels in task.validation:
        with torch.autocast('cpu', torch.bfloat16):
            right = model(inputs).argmax(-1) == labels
        for c in task.scored:
            hits[c] += right[labels == c].sum()
            total[c] += (labels == c).sum()
    return round((hits / total)[list(task.scored)].mean().item(), 4)


def mixers_of(model: nn.Module) -> list[TokenMixer]:
    """All that mixes tokens; identities do not."""
    mixers = [module for module in model.modules() if isinstance(module, TokenMixer)]
    return [mixer for mixer in mixers if not isinstance(mixer, IdentityMixer)]


@contextmanager
def broken(model: nn.Module, task: Any, kind: str) -> Iterator[None]:
    """Replace the output of every mixer by zero, or by its mean over tokens and images of the validation data."""
    mixers = mixers_of(model)
    means = [torch.zeros(()) for _ in mixers] if kind == 'zeroed' else mean_outputs(model, mixers, task)
    hooks = [
        mixer.register_forward_hook(lambda _, args, out, mean=mean: mean.to(out.dtype).expand_as(out))
        for mixer, mean in zip(mixers, means, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def mean_outputs(model: nn.Module, mixers: Sequence[nn.Module], task: Any) -> list[Tensor]:
    """Each mixer's mean output (C,)."""
    outputs: list[list[Tensor]] = [[] for _ in mixers]
    hooks = [
        mixer.register_forward_hook(lambda _, args, out, kept=kept: kept.append(out.float().mean((0, 1))))
        for mixer, kept in zip(mixers, outputs, strict=True)
    ]
    score(model, task)
    for hook in hooks:
        hook.remove()
    return [torch.stack(kept).mean(0) for kept in outputs]  # the batches are equally large


def measure_costs(name: str, mixers: Sequence[str], data: tuple[Path, Path], record: Record) -> None:
    """Time a training step of every mixer in turns, and take its peak memory, each in a fresh process."""
    task = TASKS[name](*data)
    models = {}
    for mixer in mixers:
        with suppress(InputError):  # said when it is trained
            models[mixer] = task.model((MIXERS | STUDY)[mixer].mixer).train()
    batch = next(task.batches(0))
    seconds = interleave({mixer: partial(step, model, batch) for mixer, model in models.items()}, REPEATS, name)
    for mixer, times in seconds.items():
        record.add(
            dict(task=name, mixer=mixer, seed=None),
            step_ms=round(1e3 * statistics.median(times), 1),
            time_of_first=round(median_ratio(times, seconds[next(iter(models))]), 2),
            peak_mib=round(run_apart(peak_memory, name, mixer, *data) / MIB),
        )


def step(model: nn.Module, batch: Batch) -> None:
    loss_of(model, batch).backward()


def peak_memory(name: str, mixer: str, *data: Path) -> int:
    """Peak memory in bytes of a forward and a backward pass, beyond weights and data."""
    torch.set_num_threads(1)
    task = TASKS[name](*data)
    model, batch = task.model((MIXERS | STUDY)[mixer].mixer).train(), next(task.batches(0))
    step(model, batch)  # the first call loads code
    return peak_bytes(partial(step, model, batch))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--data-root', type=Path, default='data/cifar10', help='folder of cifar-10-batches-py (default: %(default)s)'
    )
    parser.add_argument('--shapes', type=Path, default=Path('data'), help='where scenes are drawn (%(default)s)')
    parser.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS))
    choices = [*MIXERS, *STUDY]
    parser.add_argument(
        '--mixers', nargs='+', choices=choices, default=list(MIXERS), metavar='MIXER', help=', '.join(choices)
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--cost', action='store_true', help='measure time and memory of a step instead of training')
    parser.add_argument('--json', type=Path, help='where to record the results')
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    record, data = Record(make_header('which_mixer', 'cpu'), args.json, resume=True), (args.data_root, args.shapes)
    for name in args.tasks:
        task = TASKS[name](*data)
        if args.cost:
            measure_costs(name, args.mixers, data, record)
            continue
        for seed, mixer in itertools.product(args.seeds, args.mixers):
            keys = dict(task=name, mixer=mixer, seed=seed)
            if record.find(keys):
                continue
            try:
                results = train(task, (MIXERS | STUDY)[mixer], seed)
            except InputError as error:  # Linformer and MLP in a body that takes images of any size
                results = dict(reason=str(error))
            record.add(keys, **results)
            print(keys | {key: value for key, value in results.items() if key != 'curve'}, flush=True)
    if args.json:
        draw(args.json.with_suffix('.png'), record.rows)


if __name__ == '__main__':
    main()

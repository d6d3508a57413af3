"""Replace the attention of trained models by linear attention, without labels: what is the new attention worth?

    python benchmarks/linearize.py --json benchmarks/cpu/linearize.json

On Shapes in context (see `mixer_tasks.py`), where naming a shape needs attention, the command trains a teacher, aligns
a student's mixers with the teacher's by `xvit_det.engine.linearize`, fine-tunes it for a few steps, and scores all of
it beside controls: without attention, with attention at random, and from scratch. It takes one thread. The first seed
also trains from scratch for as long as alignment and fine-tuning take, and aligns mixers that start at random. What an
earlier run left in the JSON file is kept, so that an interrupted run goes on.

The score is the mean recall over the two classes that need attention: guessing gets 0.5.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from xvit_det.benchmark.record import Record, make_header
from xvit_det.cli.common import command
from xvit_det.engine.linearize import OPTIMIZER, Linearization, take_weights

sys.path.insert(0, str(Path(__file__).parent))

from mixer_tasks import Context  # noqa: E402
from which_mixer import broken, score, step  # noqa: E402

ALIGN_STEPS, ALIGN_BATCH, TUNE_STEPS = 300, 16, 50
EVERY = 10  # steps between the recorded errors
STUDENTS = {
    'xca': {
        'xnorm': dict(type='xnorm'),
        'xnorm_half': dict(type='xnorm', attn_dims=64),
    },
    'softmax': {
        'nystrom': dict(type='nystrom', landmarks=16),
        'performer': dict(type='performer', eps=1e-9),
        'xnorm': dict(type='xnorm'),
    },
}


def train(model: nn.Module, task: Context, seed: int, steps: int | None = None, seconds: float = 0.0) -> int:
    """Train with labels for so many steps, or so many seconds of computing time; the number of steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.lr)
    model.requires_grad_(True).train()
    end = time.process_time() + seconds
    for number, batch in enumerate(task.batches(seed)):
        if number == steps if steps is not None else time.process_time() >= end:
            return number
        optimizer.zero_grad()
        step(model, batch)
        optimizer.step()
    raise AssertionError('the batches never end')


def unlabelled(task: Context, seed: int) -> Iterator[Tensor]:
    """Batches of images alone."""
    batches = task.batches(seed)
    while True:
        yield torch.cat([next(batches)[0] for _ in range(ALIGN_BATCH // task.batch_size)])


def align(teacher: nn.Module, student: nn.Module, task: Context, seed: int, start: str) -> dict[str, list[float]]:
    """Make the student the teacher with other mixers, and train these without labels; their errors while training."""
    model = Linearization(teacher.backbone, student.backbone, start).train()
    student.head.load_state_dict(teacher.head.state_dict())
    settings = {name: value for name, value in OPTIMIZER.items() if name != 'type'}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **settings)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ALIGN_STEPS)
    curves: dict[str, list[float]] = {}
    for number, images in zip(range(ALIGN_STEPS), unlabelled(task, seed), strict=False):
        with torch.autocast('cpu', torch.bfloat16):
            errors = model(images)
        if number % EVERY == 0 or number == ALIGN_STEPS - 1:
            for name, error in errors.items():
                if name != 'loss':
                    curves.setdefault(name, []).append(round(error.item(), 5))
        optimizer.zero_grad()
        errors['loss'].backward()
        optimizer.step()
        scheduler.step()
    return curves


def linearize(teacher: nn.Module, task: Context, mixer: dict[str, Any], seed: int) -> dict[str, Any]:
    """All scores of one student."""

    def new_student(start: str | None = None) -> nn.Module:
        torch.manual_seed(seed)
        student = task.model(mixer)
        if start is not None:
            take_weights(student.backbone, teacher.backbone, start)
            student.head.load_state_dict(teacher.head.state_dict())
        return student

    other = seed + 1000  # other draws than those that the teacher was trained with
    results: dict[str, Any] = dict(start=score(new_student('teacher'), task))
    before = time.process_time()
    student = new_student()
    results['errors'] = align(teacher, student, task, other, 'teacher')
    seconds = time.process_time() - before
    results['aligned'] = score(student, task)
    with broken(student, task, 'zeroed'):
        results['aligned_zeroed'] = score(student, task)
        tuned_without = deepcopy(student)
    before = time.process_time()
    train(student, task, other, TUNE_STEPS)
    seconds += time.process_time() - before
    results['tuned'] = score(student, task)

    random = new_student('random')
    results['random'] = score(random, task)
    train(random, task, other, TUNE_STEPS)
    results['random_tuned'] = score(random, task)
    train(tuned_without, task, other, TUNE_STEPS)  # a copy with the hooks that zero its mixers
    results['zeroed_tuned'] = score(tuned_without, task)

    scratch = new_student()
    train(scratch, task, other, TUNE_STEPS)
    results['scratch'] = score(scratch, task)
    if seed == 0:  # the two that take as long as all of the rest
        scratch = new_student()
        results['scratch_steps'] = train(scratch, task, other, seconds=seconds)
        results['scratch_equal_time'] = score(scratch, task)
        student = new_student()
        results['errors_from_random'] = align(teacher, student, task, other, 'random')
        results['aligned_from_random'] = score(student, task)
    return results | dict(seconds=round(seconds))


def draw(path: Path, rows: list[dict]) -> None:
    """Save the errors by block while aligning, of the first seed, one panel for each pair."""
    rows = [row for row in rows if row['seed'] == 0]
    if not rows:
        return
    figure = Figure(figsize=(3.4 * len(rows), 3.4), layout='constrained', dpi=100)
    panels = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, row in zip(panels, rows, strict=True):
        for key, line in (('errors_from_random', ':'), ('errors', '-')):
            for index, (name, errors) in enumerate(row[key].items()):
                steps = sorted({*range(0, ALIGN_STEPS, EVERY), ALIGN_STEPS - 1})
                label = name if key == 'errors' else None
                axes.semilogy(steps, np.array(errors), line, color=f'C{index}', label=label, linewidth=1.6)
        axes.set(title=f'{row["teacher"]} → {row["student"]}', xlabel='steps')
        axes.grid(alpha=0.3)
    panels[0].set_ylabel('error / variance')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside right center', frameon=False)
    figure.savefig(path)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shapes', type=Path, default=Path('data'), help='where scenes are drawn (%(default)s)')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--json', type=Path, help='where to record the results')
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    task = Context(Path(), args.shapes)
    settings = dict(align_steps=ALIGN_STEPS, align_batch=ALIGN_BATCH, tune_steps=TUNE_STEPS, teacher_steps=task.steps)
    record = Record(make_header('linearize', 'cpu', **settings), args.json, resume=True)
    for seed, (name, students) in itertools.product(args.seeds, STUDENTS.items()):
        keys = {student: dict(teacher=name, student=student, seed=seed) for student in students}
        left = {student: students[student] for student in students if not record.find(keys[student])}
        if not left:
            continue
        torch.manual_seed(seed)
        teacher = task.model(dict(type=name))
        train(teacher, task, seed, task.steps)
        own = dict(teacher_score=score(teacher, task))
        with broken(teacher, task, 'zeroed'):
            own['teacher_zeroed'] = score(teacher, task)
        for student, mixer in left.items():
            results = linearize(teacher, task, mixer, seed)
            record.add(keys[student], **own, **results)
            print(keys[student] | own | {k: v for k, v in results.items() if 'errors' not in k}, flush=True)
    if args.json:
        draw(args.json.with_suffix('.png'), record.rows)


if __name__ == '__main__':
    main()

"""The learning curves that `which_mixer.py` records, as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

STYLES = {  # mixers of one family have one colour
    'none': ('#999999', ':'),
    'softmax': ('#222222', '-'),
    'nystrom': ('#7a5fd0', '-'),
    'linformer': ('#b58be0', '-'),
    'xca': ('#2a9d6f', '-'),
    'xnorm': ('#2f6fde', '-'),
    'xnorm_narrow': ('#2f6fde', '--'),
    'performer': ('#e0662f', '-'),
    'performer_eps': ('#e0662f', '--'),
    'fourier': ('#c9a227', '-'),
    'mlp': ('#d6478f', '-'),
}
TITLES = {
    'look-up': 'look-up, 144 tokens',
    'context': 'Shapes in context, X-ViT body',
    'cifar_vix': 'CIFAR-10, ViX body',
    'cifar_xvit': 'CIFAR-10, X-ViT body',
    'cifar_xvit_no_local': 'CIFAR-10, X-ViT body without local interaction',
}


def draw(path: Path, rows: Sequence[dict]) -> None:
    """Save one panel for each task: the mean over seeds of each mixer's score, and its range, by training steps."""
    rows = [row for row in rows if row.get('curve') and row['mixer'] in STYLES]
    tasks = [task for task in TITLES if any(row['task'] == task for row in rows)]
    if not tasks:
        return
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.6 * lines), layout='constrained', dpi=100)
    grid = figure.subplots(lines, columns, squeeze=False).flat
    for axes in grid[len(tasks) :]:
        axes.set_axis_off()
    for axes, task in zip(grid, tasks, strict=False):
        for mixer, (colour, line) in STYLES.items():
            curves = [row['curve'] for row in rows if (row['task'], row['mixer']) == (task, mixer)]
            if not curves:
                continue
            length = max(map(len, curves))
            steps = max(curves, key=len)
            # A training that has reached the level ends there, and counts with its last score afterwards.
            scores = np.array([[*(s for _, s in c), *[c[-1][1]] * (length - len(c))] for c in curves])
            x = [step for step, _ in steps]
            axes.plot(x, 100 * scores.mean(0), line, color=colour, label=mixer, linewidth=1.8)
            axes.fill_between(x, 100 * scores.min(0), 100 * scores.max(0), color=colour, alpha=0.12, linewidth=0)
        axes.set(title=TITLES[task], xlabel='training steps', ylabel='mean recall in percent')
        axes.grid(alpha=0.3)
    handles = {h.get_label(): h for axes in figure.axes for h in axes.get_lines()}
    figure.legend(handles=list(handles.values()), loc='outside right center', frameon=False)
    figure.savefig(path)

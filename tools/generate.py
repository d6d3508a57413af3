"""Write what is derived from configs and records: the metafiles, and the tables in README.md and docs/.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is one of ``TABLES`` below.
"""

import argparse
import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import mmengine.config.utils
import torch
from mmengine.analysis.complexity_analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.registry import MODELS

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from xvit_det import count_macs, list_models  # noqa: E402
from xvit_det.analysis.model_index import DRAWN_DATA, NOT_LISTED, WITHOUT_TOTAL, metafiles  # noqa: E402
from xvit_det.analysis.models import model_row  # noqa: E402
from xvit_det.analysis.paper_tables import rows as paper_rows  # noqa: E402
from xvit_det.analysis.paper_tables import to_markdown  # noqa: E402
from xvit_det.benchmark.table import markdown as benchmark_markdown  # noqa: E402
from xvit_det.hub import find_config  # noqa: E402

RECORDS = REPO / 'benchmarks' / 'cpu'
REGION = re.compile(r'(<!-- table: (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)
SIZES = {'tiny': 't', 'small': 's', 'medium': 'm', 'base': 'b'}


def table(titles: Sequence[str], rows: Iterable[Sequence[object]], texts: int = 1) -> str:
    """A Markdown table whose first ``texts`` columns are text and whose others are numbers."""
    lines = ['| ' + ' | '.join(titles) + ' |', '|' + '-|' * texts + '-:|' * (len(titles) - texts)]
    lines += ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]
    return '\n'.join(lines) + '\n'


@functools.cache
def config(name: str) -> Config:
    return Config.fromfile(find_config(name))


def record(name: str) -> dict:
    return json.loads((RECORDS / f'{name}.json').read_text())


def gmacs(name: str, part: str = 'macs') -> str:
    """10⁹ multiply-accumulates of a config's backbone, or of its model (``part='model_macs'``)."""
    macs = getattr(model_row(name), part)
    return '–' if macs is None else f'{macs / 1e9:.{1 if macs > 4e10 else 2}f}'


def xvit() -> str:
    """The four sizes, each in its classifier and in its detector."""
    titles = ['', 'parameters, 1000 classes', 'GMAC at 224', 'detection backbone', 'GMAC at 800x1344']
    titles += ['Mask R-CNN, 80 classes', "ImageNet top-1, paper's", "COCO box / mask AP, paper's", 'config']
    rows = []
    for letter in SIZES.values():
        classifier, detector = f'xvit_{letter}_in1k', f'mask_rcnn_xvit_{letter}_3x'
        coco = config(detector).get('paper') or {}
        rows.append(
            (
                f'X-ViT-{letter.upper()}',
                f'{model_row(classifier).parameters:,}',
                gmacs(classifier),
                f'{model_row(detector).backbone_parameters:,}',
                gmacs(detector),
                f'{model_row(detector).parameters:,}',
                config(classifier).paper.top1,
                f'{coco.bbox_mAP} / {coco.segm_mAP}' if coco else '–',
                f'`{detector}`',
            )
        )
    return table(titles, rows)


def configs(pattern: str, keep: Callable[[str], bool] = lambda name: True) -> str:
    """Every config whose name matches: what it builds and costs."""
    titles = ['config', 'backbone', 'epochs', 'parameters', 'of the backbone', 'GMAC', 'of the backbone', 'at']
    rows = []
    for name in filter(keep, list_models(pattern)):
        row, part = model_row(name), config(name).model.backbone
        arch = part.arch if isinstance(part.arch, str) else 'its own'
        mixer = part.get('mixer', '')
        mixer = f', {mixer if isinstance(mixer, str) else mixer.type}' if mixer else ''
        size = 'x'.join(map(str, row.size)) if len(set(row.size)) > 1 else row.size[0]
        total = '–' if name in WITHOUT_TOTAL else f'{row.parameters:,}'
        schedule = config(name).train_cfg
        epochs = schedule.get('max_epochs') or f'{schedule.max_iters:,} iterations'
        cells = (f'`{name}`', f'{part.type} {arch}{mixer}', epochs, total, f'{row.backbone_parameters:,}')
        rows.append((*cells, gmacs(name, 'model_macs'), gmacs(name), size))
    return table(titles, rows, texts=2)


def mmengine_macs() -> str:
    """Our count beside MMEngine's, and what MMEngine's holds or lacks."""
    cases = {
        ('X-ViT-T', (224, 224)): dict(type='XViT', arch='tiny'),
        ('X-ViT-S', (224, 224)): dict(type='XViT', arch='small'),
        ('ViX-S, Nyström', (224, 224)): dict(type='ViX', arch='small', mixer='nystrom'),
        ('ViX-S, softmax', (224, 224)): dict(type='ViX', arch='small', mixer='softmax'),
        ('ViX-S, softmax', (400, 672)): dict(type='ViX', arch='small', mixer='softmax'),
    }
    titles = ['backbone', 'image', 'ours, GMAC', "MMEngine's", 'difference', 'norms', 'softmax attention']
    rows = []
    for (name, size), cfg in cases.items():
        backbone = MODELS.build(cfg).eval()
        ours = count_macs(backbone, size)
        analyzer = FlopAnalyzer(backbone, torch.zeros(1, 3, *size))
        operators = analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
        theirs, norms = sum(operators.values()), operators['batch_norm'] + operators['layer_norm']
        shares = [f'{part / ours:+.1%}' for part in (theirs - ours, norms, theirs - norms - ours)]
        rows.append((name, '{}x{}'.format(*size), f'{ours / 1e9:.2f}', f'{theirs / 1e9:.2f}', *shares))
    return table(titles, rows, texts=2)


def published(pattern: str, figures: dict[str, str]) -> str:
    """Configs whose weights are published, with their authors' figures."""
    titles = ['config', 'parameters', 'of the backbone', 'GMAC', 'of the backbone', 'at']
    authors = {config(name).published.source.split(',')[0] for name in list_models(pattern)}
    titles.append(f"{' / '.join(figures.values())}, {', '.join(authors)}'")
    rows = []
    for name in list_models(pattern):
        row, values = model_row(name), config(name).published
        size = 'x'.join(map(str, row.size)) if len(set(row.size)) > 1 else row.size[0]
        cells = (f'`{name}`', f'{row.parameters:,}', f'{row.backbone_parameters:,}', gmacs(name, 'model_macs'))
        rows.append((*cells, gmacs(name), size, ' / '.join(str(values[key]) for key in figures)))
    return table(titles, rows)


def vix_detection() -> str:
    """The detectors around a ViX, LeViX, CCX, CvX or PiX."""
    titles = ['config', 'backbone', 'strides of the blocks', 'GMAC at 800x1344', 'parameters', 'Mask R-CNN, 80 classes']
    rows = []
    for name in list_models('mask_rcnn_*_3x'):
        part = config(name).model.backbone
        if part.type == 'XViT':
            continue
        with torch.device('meta'):
            taps = MODELS.build({**part}).out_indices  # those of the pyramid
            plain = MODELS.build({**part, 'out_type': 'featmap', 'out_indices': taps})
        mixer = part.mixer if isinstance(part.mixer, str) else part.mixer.type
        stem = f', {part.stem} stem' if 'stem' in part else ''
        blocks = f'{part.type} {part.arch}, {mixer}{stem}'
        strides = ', '.join(map(str, sorted(set(plain.out_strides))))
        row = model_row(name)
        rows.append((f'`{name}`', blocks, strides, gmacs(name), f'{row.backbone_parameters:,}', f'{row.parameters:,}'))
    return table(titles, rows, texts=3)


def segmentation() -> str:
    """Every segmentor, with the cost of its backbone and of the whole."""
    titles = ['config', 'backbone', 'head', 'iterations', 'parameters', 'of the backbone']
    titles += ['GMAC of the backbone', 'GMAC', 'at']
    rows = []
    for name in list_models('*'):
        cfg = config(name)
        if cfg.default_scope != 'mmseg' or name in NOT_LISTED or 'published' in cfg:
            continue
        row, part = model_row(name), cfg.model.backbone
        cells = (f'`{name}`', f'{part.type} {part.arch}', cfg.model.decode_head.type.removesuffix('Head'))
        cells += (f'{cfg.train_cfg.max_iters:,}', f'{row.parameters:,}', f'{row.backbone_parameters:,}', gmacs(name))
        rows.append((*cells, gmacs(name, 'model_macs'), 'x'.join(map(str, row.size))))
    return table(titles, rows, texts=3)


def speed_summary() -> str:
    """Plain fp32 inference beside the peers', and the time after fuse()."""
    rows = {(r['model'], r['size'], r['mode']): r for r in record('speed')['rows'] if r['dtype'] == 'fp32'}
    sizes = sorted({size for _, size, mode in rows if mode == 'eager'}, key=lambda size: int(size.split('x')[0]))
    peers = {'xcit_s12': 'XCiT-S12/16', 'deit_s': 'DeiT-S', 'swin_t': 'Swin-T'}
    titles = ['images', 'X-ViT-S, ms', *(f'{name} takes' for name in peers.values()), 'X-ViT-S after `fuse()`, ms']
    lines = []
    for size in sizes:
        ours = rows['xvit_s', size, 'eager']
        ratios = [f'{rows[peer, size, "eager"]["ratio_to_first"]:.2f}x' for peer in peers]
        fused = f'{rows["xvit_s", size, "fused"]["ms"]:.0f}'
        lines.append((f'{size}, batch {ours["batch"]}', f'{ours["ms"]:.0f}', *ratios, fused))
    return table(titles, lines)


def fused() -> str:
    """X-ViT-S after fuse() beside before it, by instructions."""
    titles = ['instructions', 'image', 'dtype', 'plain, ms', 'fused, ms', 'plain / fused']
    titles += ['oneDNN / PyTorch', 'GFLOP/s']
    lines = []
    for r in record('fused')['rows']:
        times = f'{r["plain_ms"]:.0f}', f'{r["fused_ms"]:.0f}', f'{r["plain_by_fused"]:.2f}x'
        case = r['instructions'], r['size'], r['dtype']
        lines.append((*case, *times, f'{r["onednn_trial"]:.2f}x', f'{r["gflops"]:.0f}'))
    return table(titles, lines, texts=3)


def operators() -> str:
    """The operations that detectors share, PyTorch's or torchvision's beside ours."""
    titles = ['instructions', 'operation', 'shape', 'theirs, ms', 'ours, ms', 'theirs / ours', 'difference']
    lines = [
        (
            *(r['instructions'], r['operation'], r['shape'], f'{r["theirs_ms"]:.1f}', f'{r["ours_ms"]:.1f}'),
            *(f'{r["theirs_by_ours"]:.1f}x', f'{r["difference"]:.0e}'),
        )
        for r in record('operators')['rows']
    ]
    return table(titles, lines, texts=3)


def memory() -> str:
    """Peak memory of a training step."""
    rows = {(row['model'], row['with_cp']): row for row in record('memory')['rows']}
    names = {'xvit_s': 'X-ViT-S', 'xcit_s12': 'XCiT-S12/16', 'swin_t': 'Swin-T', 'deit_s': 'DeiT-S'}

    def cell(key: tuple[str, bool]) -> str:
        return f'{rows[key]["peak_mib"] / 1024:.2f}' if key in rows else 'no such option'

    lines = [
        (title, *(cell((model, with_cp)) for model in names))
        for title, with_cp in (('plain', False), ('`with_cp=True`', True))
    ]
    return table(['GiB', *names.values()], lines)


def detector() -> str:
    """Where the time of Mask R-CNN's steps goes."""
    rows = record('detector')['rows']
    parts = list(dict.fromkeys(row['part'] for row in rows))
    parts = [part for part in parts if part != 'total'] + ['total']
    cells = {(row['phase'], row['part']): f'{row["ms"]:.0f} ({row["share"]:.0%})' for row in rows}
    lines = [(part, *(cells.get((phase, part), '–') for phase in ('training', 'test'))) for part in parts]
    return table(['part', 'training step, ms', 'test step, ms'], lines)


def memory_format() -> str:
    """The time with contiguous maps beside that with channels-last ones."""
    rows = [
        (r['part'], f'{r["ms"]:.0f}', f'{r["contiguous_ms"]:.0f}', f'{r["ratio"]:.2f}')
        for r in record('memory_format')['rows']
    ]
    return table(['Mask R-CNN up to', 'maps as they are, ms', 'contiguous, ms', 'ratio'], rows)


def mixers() -> str:
    """Our mixers beside the packages that compute the same."""
    titles = ['mixer', 'tokens', 'mode', 'ours, ms', 'theirs, ms', 'theirs / ours', 'ours, MiB', 'theirs, MiB']
    numbers = {'our_ms': '.1f', 'their_ms': '.1f', 'speed_ratio': '.2f', 'our_mib': '.0f', 'their_mib': '.0f'}
    rows = [
        (row['mixer'], row['tokens'], row['mode'], *(f'{row[key]:{digits}}' for key, digits in numbers.items()))
        for row in record('mixers')['rows']
    ]
    return table(titles, rows, texts=3)


def training_memory() -> str:
    """Memory of the models of Table 1, measured and as the paper prints it."""
    rows = record('training_memory')['rows']
    plain, hybrid = ([r for r in rows if r['model'].startswith('Hybrid') is flag] for flag in (False, True))
    lines = []
    for source, key, digits in (
        ('CPU, batch 8', 'gb', 2),
        ("the paper's: GPU, batch 64", 'paper_gb_batch64', 1),
    ):
        for kind, group in (('plain', plain), ('hybrid', hybrid)):
            cells = ['–' if row[key] is None else f'{row[key]:.{digits}f}' for row in group]
            lines.append((f'{kind}, {source}', *cells))
    return table(['GB', *(row['model'] for row in plain)], lines)


def learn_cifar10() -> str:
    """Accuracy after so many epochs on a part of CIFAR-10."""
    names = {'vit': 'ViT', 'hybrid_vip_eps': 'hybrid ViP, `eps=1e-9`', 'hybrid_vin': 'hybrid ViN'}
    epochs = (1, 5, 10, 20)
    lines = []
    for key, name in names.items():
        history = {row['epoch']: row for row in record('learn_cifar10')['rows'] if row['model'] == key}
        paper = config(f'{key.removesuffix("_eps")}_cifar10').paper.top1
        cells = [history[epoch]['top1'] for epoch in epochs]
        lines.append((name, *cells, f'{history[epochs[-1]]["cpu_seconds"] / 60:.0f}', paper))
    return table(['', *(f'epoch {epoch}' for epoch in epochs), 'CPU minutes', 'the paper, 50,000 images'], lines)


def which_mixer(task: str, study: bool = False) -> str:
    """What each mixer reaches on one task, with and without its output; or the variants of XNorm and softmax."""
    rows = [row for row in record('which_mixer')['rows'] if row['task'] == task]
    costs = {row['mixer']: row for row in rows if row['seed'] is None}
    runs: dict[str, list[dict]] = {}
    for row in rows:
        if 'score' in row and (row['mixer'] in ('xnorm', 'softmax') or study != (row['mixer'] in costs)):
            runs.setdefault(row['mixer'], []).append(row)
    lines = []
    for name, found in runs.items():
        steps = ', '.join('–' if row['steps_to_level'] is None else str(row['steps_to_level']) for row in found)
        score, zeroed, averaged = (percent_range(row[key] for row in found) for key in ('score', 'zeroed', 'averaged'))
        cost = [] if study else [f'{costs[name]["time_of_first"]:.2f}', costs[name]['peak_mib']]
        lines.append((f'`{name}`', score, steps, zeroed, averaged, *cost))
    titles = ['mixer', 'score', 'steps to the level', 'zeroed', 'averaged']
    return table(titles + ([] if study else ['time of a step', 'MiB']), lines)


def linearize(columns: dict[str, str]) -> str:
    """Scores of students with another mixer than their teacher's, or of the controls, by title and key."""
    lines = []
    for name, rows in linearized_pairs():
        for row in rows:
            worth = row['teacher_score'] - row['teacher_zeroed']
            row['kept'] = (row['aligned'] - row['teacher_zeroed']) / worth
        lines.append((name, *(percent_range(row[key] for row in rows if key in row) for key in columns.values())))
    return table(['', *columns], lines)


LINEARIZED = {
    'teacher': 'teacher_score',
    'zeroed': 'teacher_zeroed',
    'started': 'start',
    'aligned': 'aligned',
    'kept, %': 'kept',
    'tuned': 'tuned',
}
LINEARIZE_CONTROLS = {
    'random': 'random',
    'random, aligned': 'aligned_from_random',
    'random, tuned': 'random_tuned',
    'zeroed, tuned': 'zeroed_tuned',
    'from scratch': 'scratch',
    'from scratch, equal time': 'scratch_equal_time',
}


def linearize_errors() -> str:
    """Mean error of the blocks before and after training, from the teacher's weights and, for one seed, random ones."""
    lines = []
    for name, rows in linearized_pairs():
        cells = []
        for key in ('errors', 'errors_from_random'):
            blocks = [errors for row in rows if 'errors_from_random' in row for errors in row[key].values()]
            cells += [f'{sum(errors[step] for errors in blocks) / len(blocks):.3f}' for step in (0, -1)]
        lines.append((name, *cells))
    return table(['', "teacher's weights, first step", 'last step', 'random, first step', 'last step'], lines)


def linearized_pairs() -> list[tuple[str, list[dict]]]:
    """The record's rows of each teacher and student."""
    pairs: dict[str, list[dict]] = {}
    for row in record('linearize')['rows']:
        pairs.setdefault(f'{row["teacher"]} → {row["student"]}', []).append(row)
    return list(pairs.items())


def percent_range(values: Iterable[float]) -> str:
    percents = sorted(100 * value for value in values)
    low, high = f'{percents[0]:.1f}', f'{percents[-1]:.1f}'
    return low if low == high else f'{low} to {high}'


def stock_mmdet() -> str:
    """MMDetection's configs with our backbone."""
    rows = [row for row in record('stock_mmdet')['rows'] if 'left_out' not in row]
    lines = []
    for row in sorted(rows, key=lambda row: (row['family'], row['config'])):
        settings = [f'{name}={tuple(v) if isinstance(v, list) else v}' for name, v in row.get('settings', {}).items()]
        works = 'yes' if 'error' not in row else 'no' if row['stock'] == 'works' else 'no, nor does the stock config'
        cells = (f'`{row["config"].removesuffix(".py")}`', ', '.join(f'`{setting}`' for setting in settings), works)
        lines.append((row['family'], *cells))
    titles = ['folder', 'config', 'set beside `backbone` and `in_channels`', 'works']
    good = [row for row in rows if 'error' not in row]
    folders, good_folders = ({row['family'] for row in part} for part in (rows, good))
    counts = f'{len(good)} of {len(rows)} configs work, in {len(good_folders)} of {len(folders)} folders.'
    return f'{counts}\n\n' + table(titles, lines, texts=4)


def stock_mmdet_left_out() -> str:
    """The folders that were not tried."""
    rows = [row for row in record('stock_mmdet')['rows'] if 'left_out' in row]
    return table(['folder', 'why'], sorted((row['family'], row['left_out']) for row in rows), texts=2)


def large_images() -> str:
    """Mosaics predicted in one pass, in tiles and downscaled."""
    lines = []
    for row in record('large_images')['rows']:
        figures = {'mAP': '.3f', 'AP50': '.3f', 'AR': '.3f', 'seconds': '.1f', 'peak_gib': '.2f'}
        cells = [f'{row[key]:{digits}}' if key in row else '–' for key, digits in figures.items()]
        lines.append((row['backbone'], row['way'], *cells))
    titles = ['backbone', 'way', 'box mAP', 'AP50', 'AR', 'CPU seconds per image', 'peak memory, GiB']
    return table(titles, lines, texts=2)


def export() -> str:
    """An exported detector by runtime and dtype: what it finds, its size and its time."""
    rows = record('export')['rows']
    whole = rows[0]
    lines = [
        (
            row['runtime'],
            row['dtype'] + (f', {row["parts"]}' if row['parts'] else ''),
            f'{row["bbox_mAP"]:.3f} / {row["segm_mAP"]:.3f}',
            f'{row["megabytes"]:.1f} ({row["megabytes"] / whole["megabytes"]:.0%})',
            f'{row["milliseconds"]:.1f}',
            f'{row["times_as_fast"]:.2f}',
        )
        for row in rows
    ]
    titles = ['runtime', 'weights and their products', 'box / mask mAP', 'MB', 'ms per image', 'times as fast']
    return table(titles, lines, texts=2)


def hours() -> str:
    """What a long training run holds, in parts of its time."""
    runs: dict[str, list[dict]] = {}
    for row in record('hours')['rows']:
        if 'minute' in row:
            runs.setdefault(row['mmap_threshold'] or "glibc's own", []).append(row)
    lines = []
    for threshold, rows in runs.items():
        middle = len(rows) // 2
        for part in (rows[5:10], rows[middle : middle + 5], rows[-5:]):
            means = (sum(row[key] for row in part) / len(part) for key in ('mib', 'files', 'threads'))
            minutes = f'{part[0]["minute"]} to {part[-1]["minute"]}'
            lines.append((threshold, minutes, *(f'{mean:.0f}' for mean in means)))
    return table(['`MALLOC_MMAP_THRESHOLD_`', 'minutes', 'MiB', 'open files', 'threads'], lines, texts=2)


def versions() -> str:
    """Environments in which the tests of the models and a short demo ran."""
    lines = []
    for row in record('versions')['rows']:
        packages = row['packages']
        stack = 'OneDL' if 'onedl-mmengine' in packages else 'official'
        tests = f'{row["passed"]} passed, {row["failed"]} failed, {row["skipped"]} skipped'
        lines.append((row['python'], packages['torch'], packages['torchvision'], stack, tests, row['demo']))
    return table(['Python', 'torch', 'torchvision', 'stack', 'tests', 'demo'], lines, texts=6)


def export_backbones() -> str:
    """The mixers and the largest difference of exported backbones."""
    found: dict[str, list[dict]] = {}
    for row in record('export_backbones')['rows']:
        if 'not_possible' not in row:
            found.setdefault(row['backbone'], []).append(row)
    lines = []
    for backbone, rows in found.items():
        worst = {
            dtype: max(value for row in rows for key, value in row.items() if key.startswith(dtype))
            for dtype in ('fp32', 'fp16')
        }
        mixers = ', '.join(sorted(row['mixer'] for row in rows))
        lines.append((backbone, mixers, f'{worst["fp32"]:.0e}', f'{worst["fp16"]:.0e}'))
    return table(['backbone', 'mixers', 'fp32', 'fp16'], lines, texts=2)


def precision() -> str:
    """The largest difference to fp32 of maps and gradients by mixer, dtype and kind of images, in percent."""
    found = [row for row in record('precision')['rows'] if not row['without']]

    def worst(mixer: str, images: str, dtype: str, key: str) -> str:
        keys = dict(mixer=mixer, images=images, dtype=dtype)
        value = 100 * max(row[key] for row in found if keys.items() <= row.items())
        return f'{float(f"{value:.2g}"):g}'

    lines = []
    for mixer in sorted({row['mixer'] for row in found}):
        cells = [worst(mixer, 'normal', dtype, key) for key in ('maps', 'gradients') for dtype in ('bf16', 'fp16')]
        for images in ('mean 100', 'large q, k, v'):
            for dtype in ('bf16', 'fp16'):
                cells.append(f'{worst(mixer, images, dtype, "maps")} ({worst(mixer, images, dtype, "input")})')
        lines.append((f'`{mixer}`', *cells))
    titles = ['mixer', 'maps, bf16', 'fp16', 'gradients, bf16', 'fp16', 'mean 100, bf16', 'fp16']
    return table([*titles, 'large q, k, v, bf16', 'fp16'], lines)


def amp_training() -> str:
    """What became of models that were trained in half precision."""
    lines = []
    for row in record('amp_training')['rows']:
        losses = f'{row["first_loss"]:.2f} → {row["last_loss"]:.3f}'
        lines.append((row['model'], row['dtype'], losses, f'{row["accuracy"]:.1%}', row['skipped']))
    return table(['model', 'dtype', 'loss', 'accuracy', 'skipped steps'], lines, texts=2)


def how_many_images() -> str:
    """Box / mask mAP by kind of scenes, number of images and start."""
    found = {(row['scenes'], row['images'], row['start']): row for row in record('how_many_images')['rows']}
    starts = list(dict.fromkeys(start for _, _, start in found))
    lines = []
    for scenes, images in sorted({key[:2] for key in found}, key=lambda key: (key[0] != 'plain', key[1])):
        rows = [found[scenes, images, start] for start in starts]
        cells = [f'{row["bbox_mAP"]:.3f} / {row["segm_mAP"]:.3f}' for row in rows]
        lines.append((scenes, f'{images:,}', *cells))
    return table(['scenes', 'labelled images', *starts], lines, texts=1)


TABLES: dict[str, Callable[[], str]] = {
    'xvit': xvit,
    'xvit_configs': lambda: configs(
        '*xvit_*', lambda name: name not in DRAWN_DATA and config(name).default_scope != 'mmseg'
    ),
    'segmentation': segmentation,
    'mmengine_macs': mmengine_macs,
    'xcit_in1k': lambda: published('xcit_*_in1k', dict(top1='ImageNet top-1')),
    'deit_in1k': lambda: published('deit_*_in1k', dict(top1='ImageNet top-1')),
    'xcit_detection': lambda: published('mask_rcnn_xcit_*', dict(bbox_mAP='box', segm_mAP='mask AP')),
    'xcit_segmentation': lambda: published('*_xcit_*_ade20k_*', dict(mIoU='mIoU')),
    'vix_in1k': lambda: configs('*_in1k', lambda name: not name.startswith(('xvit', 'xcit', 'deit'))),
    'vix_detection': vix_detection,
    'vix_tables': lambda: to_markdown(paper_rows()),
    'speed_summary': speed_summary,
    'speed': lambda: benchmark_markdown(record('speed')) + '\n',
    'fused': fused,
    'operators': operators,
    'memory': memory,
    'detector': detector,
    'detectors': lambda: benchmark_markdown(record('detectors')) + '\n',
    'detectors_avx2': lambda: benchmark_markdown(record('detectors_avx2')) + '\n',
    'memory_format': memory_format,
    'mixers': mixers,
    'training_memory': training_memory,
    'learn_cifar10': learn_cifar10,
    'which_mixer_look_up': lambda: which_mixer('look-up'),
    'which_mixer_context': lambda: which_mixer('context'),
    'which_mixer_cifar_vix': lambda: which_mixer('cifar_vix', study=True),
    'which_mixer_cifar_xvit': lambda: which_mixer('cifar_xvit', study=True),
    'which_mixer_cifar_no_local': lambda: which_mixer('cifar_xvit_no_local', study=True),
    'xnorm_look_up': lambda: which_mixer('look-up', study=True),
    'xnorm_context': lambda: which_mixer('context', study=True),
    'linearize': lambda: linearize(LINEARIZED),
    'linearize_controls': lambda: linearize(LINEARIZE_CONTROLS),
    'linearize_errors': linearize_errors,
    'stock_mmdet': stock_mmdet,
    'stock_mmdet_left_out': stock_mmdet_left_out,
    'large_images': large_images,
    'how_many_images': how_many_images,
    'precision': precision,
    'amp_training': amp_training,
    'export': export,
    'export_backbones': export_backbones,
    'hours': hours,
    'versions': versions,
}


def generated() -> dict[Path, str]:
    """Every file that holds something generated, and the text it should have."""
    texts = {REPO / 'configs' / path: text for path, text in metafiles().items()}
    pages = [REPO / 'README.md', *sorted((REPO / 'docs').glob('*.md'))]
    names = dict.fromkeys(found[2] for page in pages for found in REGION.finditer(page.read_text()))
    made = {name: TABLES[name]() for name in names}  # takes minutes, in which somebody may edit a page
    for page in pages:
        texts[page] = REGION.sub(lambda found: found[1] + made[found[2]] + found[3], page.read_text())
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    # Each `_base_ = 'mmpretrain::…'` reads that package's whole model index again: most of the time of a config.
    mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
    for path, text in generated().items():
        if path.read_text() != text:
            path.write_text(text)
            print(f'written: {path.relative_to(REPO)}')


if __name__ == '__main__':
    main()

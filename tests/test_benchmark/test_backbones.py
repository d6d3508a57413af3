"""The benchmark: turns, rows, memory, fits, records that continue, plots. Nothing is asserted on time."""

import json
import mmap
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from xvit_det import count_macs
from xvit_det.benchmark import measure, models, steps
from xvit_det.benchmark.cases import DTYPES, MODES, Case, parse_size, size_name
from xvit_det.benchmark.fits import fit_power, fit_rows
from xvit_det.benchmark.memory import MIB, peak_bytes, run_apart
from xvit_det.benchmark.models import NotPossible, build
from xvit_det.benchmark.plot import COLORS, draw
from xvit_det.benchmark.record import Record, read
from xvit_det.benchmark.table import markdown
from xvit_det.benchmark.timing import interleave, median_ratio
from xvit_det.benchmark.zoo import OURS
from xvit_det.cli.benchmark import main

REPO = Path(__file__).resolve().parents[2]
SHORT = ('--repeats', '2', '--threads', '1')


def test_steps_take_turns_and_warm_up_first(monkeypatch):
    calls, now = [], iter(range(100))
    monkeypatch.setattr('time.perf_counter', lambda: next(now))
    steps = {'a': lambda: calls.append('a'), 'b': lambda: calls.append('b')}
    assert interleave(steps, 3) == {'a': [1, 1, 1], 'b': [1, 1, 1]}
    assert calls == ['a', 'b'] * 5


def test_ratio_is_of_pairs():
    assert median_ratio([2, 20, 200], [1, 10, 50]) == 2


@pytest.mark.parametrize(('text', 'size'), [('224', (224, 224)), ('800x1344', (800, 1344)), ('64x64', (64, 64))])
def test_sizes(text, size):
    assert parse_size(text) == size
    assert parse_size(size_name(size)) == size


@pytest.mark.parametrize('name', OURS)
def test_our_short_names_make_one_map(name):
    with torch.device('meta'):
        model = build(name, (512, 512)).eval()
        (out,) = model(torch.empty(1, 3, 512, 512))
    assert out.ndim == 4 and not hasattr(model, 'pyramid')


# Of X-ViT-S the paper prints 3.7 with class attention; of the peers, their papers 4.8 with it, 4.6, 4.5 and 4.1.
@pytest.mark.parametrize(
    ('name', 'gmacs'), [('xvit_s', 3.7), ('xcit_s12', 4.7), ('deit_s', 4.6), ('swin_t', 4.5), ('resnet50', 4.1)]
)
def test_compared_models_do_the_work_of_their_papers(name, gmacs):
    assert count_macs(build(name, (224, 224)), 224) / 1e9 == pytest.approx(gmacs, abs=0.06)


def test_deit_runs_with_fused_attention():
    build('deit_t', (32, 32))
    attention = sys.modules['mmpretrain.models.utils.attention']
    assert attention.scaled_dot_product_attention is F.scaled_dot_product_attention


def test_xcit_has_no_class_attention():
    assert not build('xcit_t12', (32, 32)).ca_layers


@pytest.mark.parametrize('name', ['xvit_t', 'xcit_t12', 'deit_t', 'swin_t', 'resnet50'])
def test_inference_in_bf16_computes_the_same_in_bf16(name):
    model = build(name, (64, 64))
    model.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        (expected,) = model(images)
        models.cast(model, torch.bfloat16)
        (out,) = model(images.bfloat16())
    assert out.dtype == torch.bfloat16
    assert F.cosine_similarity(out.float().flatten(), expected.flatten(), dim=0) > 0.99


def test_a_configs_backbone_is_built_as_it_is_there():
    model = build('mask_rcnn_xvit_t_3x', (64, 64))
    assert model.out_type == 'pyramid' and model.mask_padding


def test_options_that_a_model_lacks():
    with pytest.raises(NotPossible, match='xcit_t12 .XCiT. has no option with_cp'):
        build('xcit_t12', (32, 32), with_cp=True)
    with pytest.raises(NotPossible, match='cannot be built for size 40'):
        build('xcit_t12', (40, 40))


@pytest.mark.parametrize('dtype', ['fp32', 'bf16', 'fp16'])
def test_a_training_step_trains_in_every_dtype(dtype):
    case = Case((32, 32), 2, dtype, 'training')
    model = build('xvit_t', case.size)
    before = [p.detach().clone() for p in model.parameters()]
    steps.make_step(model, case)()
    after = list(model.parameters())
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in after)
    assert any(not torch.equal(p, old) for p, old in zip(after, before, strict=True))


@pytest.fixture(scope='module')
def speed_record(tmp_path_factory):
    path = tmp_path_factory.mktemp('speed') / 'new' / 'speed.json'
    argv = ['speed', '--models', 'xvit_t', 'deit_t', '--sizes', '32', '32x64', '--batch', '2', *SHORT]
    main([*argv, '--json', str(path)])
    return [*argv, '--json', str(path)], path


def test_rows_agree_with_themselves(speed_record):
    content = json.loads(speed_record[1].read_text())
    header, rows = content['header'], content['rows']
    assert {'device', 'cpu_flags', 'torch', 'threads', 'date', 'matrix_peaks'} <= header.keys()
    assert [(row['model'], row['size']) for row in rows] == [
        ('xvit_t', '32'),
        ('deit_t', '32'),
        ('xvit_t', '32x64'),
        ('deit_t', '32x64'),
    ]
    for i, row in enumerate(rows):
        first = rows[i - i % 2]
        assert row['ms_min'] <= row['ms'] <= row['ms_max']
        assert row['images_per_s'] == pytest.approx(2 / row['ms'] * 1e3, rel=1e-2)
        least, most = row['ms_min'] / first['ms_max'], row['ms_max'] / first['ms_min']
        assert least * 0.99 <= row['ratio_to_first'] <= most * 1.01
        (peak,) = [p['gflops'] for p in header['matrix_peaks'] if p['size'] == row['size']]
        expected = 2 * row['gmacs'] * 2 / row['ms'] * 1e3 / peak
        assert row['peak_fraction'] == pytest.approx(expected, rel=0.02, abs=1e-4)
        assert row['gmacs'] == round(count_macs(build(row['model'], (32, 64)), parse_size(row['size'])) / 1e9, 4)
    assert rows[0]['ratio_to_first'] == rows[2]['ratio_to_first'] == 1


def test_training_counts_three_products():
    case = dict(size=(32, 32), batch=4, dtype='fp32')
    for mode, fraction in (('eager', 0.16), ('training', 0.48)):
        row = measure.speed_figures(Case(**case, mode=mode), [0.5], [0.25], macs=10**9, peak=1e11)
        assert (row['peak_fraction'], row['ratio_to_first']) == (fraction, 2)


def test_a_cut_run_keeps_what_it_measured(speed_record, monkeypatch, capsys, tmp_path):
    *argv, finished = speed_record[0]
    path = Path(shutil.copy(finished, tmp_path))
    argv.append(str(path))
    before = json.loads(path.read_text())['rows']
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2 and '--resume' in capsys.readouterr().err
    measured = []

    def cut_at_the_second(steps, repeats, **options):
        measured.append(len(steps))
        if len(measured) == 2:
            raise KeyboardInterrupt
        return interleave(steps, repeats, **options)

    monkeypatch.setattr(measure, 'interleave', cut_at_the_second)
    with pytest.raises(SystemExit) as stop:
        main([*argv, '--resume', '--mode', 'eager', 'training'])
    assert stop.value.code == 130
    rows = json.loads(path.read_text())['rows']
    assert rows[:4] == before
    assert [(row['size'], row['mode']) for row in rows[4:]] == [('32', 'training')] * 2
    content = json.loads(path.read_text())
    content['header']['torch'] = '1.0'
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stop:
        main([*argv, '--resume'])
    assert stop.value.code == 2 and "torch '1.0'" in capsys.readouterr().err


def test_reasons_are_printed_for_what_cannot_be_compared(monkeypatch, capsys):
    monkeypatch.setattr(steps.shutil, 'which', lambda name: None)
    main(['speed', '--models', 'resnet50', '--sizes', '32', '--mode', 'compiled', 'fused', *SHORT])
    shown = capsys.readouterr().err
    assert 'needs a C++ compiler' in shown and 'ResNet has no fuse()' in shown


def test_failures_are_reasons():
    with pytest.raises(NotPossible, match='vin_s, 32, batch 1, fp32, eager, fails: nystrom has landmarks=64'):
        steps.build_step('vin_s', Case((32, 32), 1, 'fp32', 'eager'))


def test_peak_memory_of_a_call():
    def touch_every_page() -> None:
        with mmap.mmap(-1, 96 * MIB) as block:
            block[:: mmap.PAGESIZE] = bytes(96 * MIB // mmap.PAGESIZE)

    assert peak_bytes(touch_every_page) / MIB == pytest.approx(96, rel=0.05)
    assert peak_bytes(lambda: None) < 5 * MIB


def test_a_killed_process_is_a_reason():
    with pytest.raises(NotPossible, match='killed'):
        run_apart(os._exit, 9)


def test_memory_with_and_without_recomputation(tmp_path):
    path = tmp_path / 'memory.json'
    main(['memory', '--models', 'xvit_t', '--sizes', '192', '--threads', '1', '--json', str(path)])
    plain, recomputed = json.loads(path.read_text())['rows']
    assert (plain['with_cp'], recomputed['with_cp'], plain['tokens']) == (False, True, 144)
    assert recomputed['peak_mib'] < plain['peak_mib']


def test_memory_of_peers_without_recomputation(monkeypatch, capsys):
    def build_only(name, case):
        steps.build_model(name, case)
        return 1.0

    monkeypatch.setattr(measure, 'peak_mib', build_only)
    main(['memory', '--models', 'xcit_t12', '--sizes', '32', '--threads', '1'])
    shown = capsys.readouterr()
    assert 'has no option with_cp' in shown.err and 'xcit_t12' in shown.out


@pytest.mark.parametrize('exponent', [1.0, 2.0, 0.5])
def test_fit_of_a_power(exponent):
    tokens = [196, 400, 4200, 67200]
    fit = fit_power(tokens, [3 * n**exponent for n in tokens])
    assert fit == pytest.approx((exponent, 1))


def test_fit_tells_when_it_is_no_power():
    assert fit_power([1, 10, 100, 1000], [1, 100, 1, 100]).r2 < 0.9


def test_tokens_of_sizes():
    assert measure.token_count((800, 1344)) == 4200
    assert measure.token_count((33, 16)) == 3


@pytest.fixture
def scaling_record(tmp_path, monkeypatch):
    """A record of real times and of memory that grows with the square."""
    monkeypatch.setattr(measure, 'peak_mib', lambda name, case: measure.token_count(case.size) ** 2)
    path = tmp_path / 'scaling.json'
    main(['scaling', '--models', 'xvit_t', 'deit_t', '--sizes', '32', '48', '64', *SHORT, '--json', str(path)])
    return path


def test_scaling_fits_exponents(scaling_record):
    rows = json.loads(scaling_record.read_text())['rows']
    assert [row['tokens'] for row in rows] == [4, 4, 9, 9, 16, 16]
    memory = [row for row in fit_rows(rows) if row['quantity'] == 'peak_mib']
    assert [row['model'] for row in memory] == ['xvit_t', 'deit_t']
    assert all((row['exponent'], row['r2']) == pytest.approx((2, 1)) for row in memory)


def colors(path) -> set[tuple[int, int, int]]:
    return {color for _, color in Image.open(path).convert('RGB').getcolors(1 << 20)}


def rgb(code: str) -> tuple[int, int, int]:
    return tuple(bytes.fromhex(code[1:]))


def test_plots_show_every_model(speed_record, scaling_record, tmp_path, capsys):
    for record in (speed_record[1], scaling_record):
        out = tmp_path / 'plots' / f'{record.stem}.png'
        main(['plot', str(record), '--out', str(out)])
        assert f'Plot: {out}' in capsys.readouterr().out
        assert {rgb(code) for code in COLORS[:2]} <= colors(out)
        assert rgb(COLORS[2]) not in colors(out)


def test_plots_of_many_modes_and_of_one_number_of_tokens(tmp_path):
    row = dict(model='xvit_s', size='224', batch=1, dtype='fp32', images_per_s=1.0, tokens=196, peak_mib=10.0)
    header = dict(device='CPU', threads=1, torch='2', date='2026-11-20')
    kinds = {
        'speed': [row | dict(mode=mode, dtype=dtype) for mode in MODES for dtype in DTYPES],
        'memory': [row | dict(mode='training', with_cp=with_cp) for with_cp in (False, True)],
    }
    for kind, rows in kinds.items():
        with warnings.catch_warnings():
            warnings.simplefilter('error')  # such as that there is no room left to draw in
            draw(dict(header=header | dict(kind=kind), rows=rows), tmp_path / f'{kind}.png')
        assert rgb(COLORS[0]) in colors(tmp_path / f'{kind}.png')


@pytest.mark.parametrize('path', sorted((REPO / 'benchmarks' / 'cpu').glob('*.json')), ids=lambda path: path.stem)
def test_kept_records_are_read(path):
    content = read(path)
    assert content['header']['kind'] and content['rows']
    # versions.json compares installations, so each row has a torch of its own
    assert 'torch' in content['header'] or all(row['packages']['torch'] for row in content['rows'])


def test_a_record_replaces_rows_and_keeps_to_its_settings(tmp_path):
    path = tmp_path / 'record.json'
    record = Record(dict(kind='x', epochs=1), path)
    record.add(dict(model='a'), top1=1)
    record.add(dict(model='b'), top1=2)
    record.add(dict(model='a'), top1=3)
    assert Record(dict(kind='x', epochs=1), path, resume=True).rows == [
        dict(model='b', top1=2),
        dict(model='a', top1=3),
    ]
    with pytest.raises(ValueError, match='has epochs 1, but this run has 2'):
        Record(dict(kind='x', epochs=2), path, resume=True)


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.modules['torch'] = None; from xvit_det.cli.benchmark import main; main(['speed', '--help'])"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0 and 'xcit_s12' in done.stdout and 'fused-compiled' in done.stdout, done.stderr


def test_a_record_as_a_table(capsys):
    keys = dict(size='224', batch=8, dtype='fp32')
    row = dict(model='xvit_s', ms=100.0, peak_fraction=0.4, ratio_to_first=1.0)
    rows = [
        row | keys | dict(mode='eager'),
        row | keys | dict(mode='eager', model='deit_s', ms=126.0, ratio_to_first=1.25),
        row | keys | dict(mode='fused', ms=60.0, peak_fraction=0.8),
    ]
    peaks = [keys | dict(mode=mode, gflops=400.0, products={'torch.mm': 200.0}) for mode in ('fused', 'eager')]
    assert markdown(dict(header=dict(kind='speed', matrix_peaks=peaks), rows=rows)).splitlines()[2:] == [
        '| 224, batch 8 | fp32, eager | 100 | 40% | 80% | 1.25x |',
        '| 224, batch 8 | fp32, fused | 60 | 80% | 160% | 2.10x |',  # 126 / 60: DeiT cannot be fused
    ]
    main(['table', str(REPO / 'benchmarks' / 'cpu' / 'speed.json')])
    assert capsys.readouterr().out.strip() in (REPO / 'docs' / 'speed.md').read_text()


def test_a_record_without_plot(tmp_path, capsys):
    path = tmp_path / 'loader.json'
    path.write_text(json.dumps(dict(header=dict(kind='loader'), rows=[])))
    with pytest.raises(SystemExit) as stop:
        main(['plot', str(path)])
    assert stop.value.code == 2 and "'loader' has no plot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('argv', 'sentence'),
    [
        (['speed', '--models', 'xvit_x'], 'did you mean xvit_t or xvit_s'),
        (['speed', '--models', 'xvit_s', 'resnet5'], "no model or config 'resnet5'; did you mean resnet50"),
        (['speed', '--sizes', '224x'], "size '224x' is neither"),
        (['memory', '--sizes', '0'], "size '0' is neither"),
        (['speed', '--repeats', '0'], '--repeats must be at least 1, not 0'),
        (['speed', '--resume'], '--resume continues the file given by --json'),
        (['loader', 'mask_rcnn_xvit_s_3x', '--workers', '-1'], '--workers must not be negative'),
        (['loader', 'mask_rcnn_xvit_q_3x'], "no config 'mask_rcnn_xvit_q_3x'"),
        (['plot', 'nowhere.json'], 'nowhere.json cannot be read: No such file'),
        (['plot', __file__], 'is not JSON'),
        (['table', str(REPO / 'benchmarks' / 'cpu' / 'memory.json')], "not of kind 'memory'"),
    ],
)
def test_wrong_input_is_one_sentence(argv, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    shown = capsys.readouterr().err
    assert stop.value.code == 2
    assert shown.startswith('error: ') and sentence in shown and shown.count('\n') == 1

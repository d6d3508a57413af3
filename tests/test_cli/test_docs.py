"""Every command and every piece of Python in README and docs is executed, as it stands there, on small data."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections import OrderedDict
from pathlib import Path

import cv2
import pytest
import timm
import torch
from mmengine.registry import DefaultScope
from torch.distributed.elastic.utils.distributed import get_free_port

import xvit_det
from xvit_det import cli
from xvit_det.config.load import read_config
from xvit_det.config.model_check import check_model
from xvit_det.datasets.shapes import ContextSpec, ShapesSpec, ensure_shapes

REPO = Path(__file__).resolve().parents[2]
PAGES = {path: path.read_text() for path in (REPO / 'README.md', *sorted((REPO / 'docs').glob('*.md')))}

# Two images, one epoch, no processes for loading: the command stays what it is, its work gets small.
SHORT = (
    '--cfg-options train_cfg.max_epochs=1 train_dataloader.dataset.indices=2 '
    'train_dataloader.num_workers=0 val_dataloader.num_workers=0'
)
SCALE = 'scale="(128,96)"'
SMALL_TEST = f'test_dataloader.num_workers=0 test_dataloader.dataset.pipeline.1.{SCALE}'
FIXED = f'train_dataloader.dataset.pipeline.2.{SCALE} val_dataloader.dataset.pipeline.1.{SCALE}'
# The two ways of multi-scale training, each to one small size.
MULTISCALE = f'val_dataloader.dataset.pipeline.1.{SCALE} ' + ' '.join(
    f'train_dataloader.dataset.pipeline.3.transforms.{step}.scales="[(128,96)]"' for step in ('0.0', '1.0', '1.2')
)
TINY = 'model.backbone.arch=tiny model.neck.in_channels="[192,192,192,192]"'

# Every command belongs to one of these; the tests below take them by name.
KINDS = {
    'make': r'make ',
    'detection': r'python tools/(train|test)\.py configs/mask_rcnn_xvit_s_3x\.py',
    'custom': r'python tools/train\.py configs/mask_rcnn_xvit_s_custom\.py',
    'ade20k': r'python tools/(train|test)\.py \S+_ade20k_80k\.py',
    'cityscapes': r'python tools/train\.py \S+_cityscapes_80k\.py',
    'label_maps': r'python tools/train\.py \S+semantic_fpn_xvit_s_custom\.py',
    'cifar': r'python tools/(train|test)\.py \S+_cifar10\.py',
    'tiny_imagenet': r'python tools/train\.py \S+_tinyimagenet\.py',
    'no_attention': r'xvit-det train mask_rcnn_xvit_context .*mixer=identity',
    'linearize': r'xvit-det (train mask_rcnn_xvit_context .*mixer=xca|linearize|(test|train) work_dirs/)',
    'convert': r'xvit-det (convert|(test|train) mask_rcnn_xcit_)',
    'selfsup': r'xvit-det train (densecl|mocov2|distill)_xvit_s_in1k_200e',
    'machines': r'(NNODES=2 .*)?tools/dist_train\.sh',
    'slurm': r'GPUS=16 tools/slurm_train\.sh',
    'models': r'xvit-det (models|env)',
    'shapes': r'xvit-det shapes',
    'check_data': r'xvit-det check-data',
    'ablate': r'xvit-det ablate',
    'look': r'xvit-det look',
    'predict': r'xvit-det predict \D',
    'export': r'xvit-det export|python \S+infer\.py',
    'web': r'xvit-det web',
    'record': r'python tools/benchmark\.py (table|plot) (speed|detectors)\.json',
    # These take minutes. Their options are checked; what they do is tested in tests/test_benchmark/ and beside it.
    'long': r'python (tools/benchmark\.py (speed|memory|scaling|detector|loader)|benchmarks/\w+\.py)',
}
NOT_RUN = {
    r"pip install '\.\[(onedl|openmmlab)\]'": 'it would change the environment that the tests run in',
    r'xvit-det predict 0 ': 'it needs a camera',
    r'python tools/paper_tables\.py': 'tests/test_analysis/test_paper_tables.py runs it',
}

pytestmark = pytest.mark.heavy


def blocks(language: str) -> list[str]:
    """The distinct code blocks of a language on all pages."""
    block = re.compile(rf'^( *)```{language}\n(.*?)^ *```', re.MULTILINE | re.DOTALL)
    found = [textwrap.dedent(code) for page in PAGES.values() for _, code in block.findall(page)]
    return list(dict.fromkeys(found))


def all_commands() -> list[str]:
    lines = [line.split('  #')[0].strip() for block in blocks('bash') for line in block.splitlines()]
    return list(dict.fromkeys(filter(None, lines)))


def commands(kind: str) -> list[str]:
    return [command for command in all_commands() if re.match(KINDS[kind], command)]


@pytest.fixture
def clone(tmp_path, draw_coco, monkeypatch) -> Path:
    """A folder that looks like the clone, with COCO in it: a few images with COCO's 80 class names."""
    from mmdet.datasets import CocoDataset

    for name in ('configs', 'tools', 'xvit_det', 'benchmarks', 'Makefile'):
        (tmp_path / name).symlink_to(REPO / name)
    coco = draw_coco(tmp_path / 'data' / 'coco', CocoDataset.METAINFO['classes'])
    for split in ('train', 'val'):
        (coco / split).rename(coco / f'{split}2017')
        (coco / 'annotations' / f'{split}.json').rename(coco / 'annotations' / f'instances_{split}2017.json')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(command: str) -> None:
    """Run `python tools/NAME.py …` or `xvit-det NAME …` in this process."""
    words = shlex.split(command)
    first, *rest = words[1:]
    name = Path(first).stem.replace('_', '-') if words[0] == 'python' else first
    with pytest.raises(SystemExit) as done:
        cli.main([name, *rest])
    assert not done.value.code, command


def shell(command: str, cwd: Path, **variables: str) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    environment = os.environ | dict(PATH=path, PYTHON=sys.executable) | variables
    return subprocess.Popen(
        command, shell=True, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def succeed(*processes: subprocess.Popen) -> str:
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, f'{process.args}\n{output}'
    return '\n'.join(outputs)


@pytest.mark.parametrize('command', all_commands())
def test_no_command_is_forgotten(command):
    assert len([pattern for pattern in [*KINDS.values(), *NOT_RUN] if re.match(pattern, command)]) == 1


def test_make_knows_its_targets(clone):
    inline = {found for page in PAGES.values() for found in re.findall(r'`(make [^`…]+)`', page)}
    assert {'make demo', 'make test', 'make docs'} <= inline | {*commands('make')}
    for command in {*commands('make'), *inline}:
        succeed(shell(f'{command} --dry-run', clone))


def test_training_and_testing(clone):
    train, test, resume = commands('detection')
    succeed(shell(f'{train} {SHORT} {MULTISCALE}', clone))
    assert 'the training is finished' in succeed(shell(f'{resume} {SHORT} {MULTISCALE}', clone))
    checkpoint = clone / shlex.split(test)[3]
    shutil.move(checkpoint.with_name('epoch_1.pth'), checkpoint)
    output = succeed(shell(f'{test} --cfg-options {SMALL_TEST}', clone))
    assert '451 of 451 weights matched' in output
    assert '44.6' in output or 'found nothing' in output  # a table, unless two steps of training taught nothing yet


def test_training_on_your_own_data(clone, draw_coco):
    shutil.rmtree(clone / 'data')
    folder = draw_coco(clone / 'data' / 'mine', ('cat', 'dog'))
    for split in ('train', 'val'):
        (folder / 'annotations' / f'{split}.json').rename(folder / f'{split}.json')
    (command,) = commands('custom')
    call(f'{command} {SHORT} {TINY} {FIXED}')
    (lines,) = [block for block in blocks('text') if 'train_file' in block]
    assert lines in (REPO / 'configs' / 'mask_rcnn_xvit_s_custom.py').read_text()


# One iteration on two crops of an image; the whole of it is evaluated at a small size.
SHORT_SEGMENTATION = (
    '--cfg-options train_cfg.max_iters=1 default_hooks.checkpoint.interval=1 train_dataloader.num_workers=0 '
    f'val_dataloader.num_workers=0 val_dataloader.dataset.pipeline.1.{SCALE} {TINY} '
    f'train_dataloader.dataset.pipeline.2.{SCALE} train_dataloader.dataset.pipeline.3.crop_size="(64,64)" '
    'model.data_preprocessor.size="(64,64)"'
)


def move_pairs(source: Path, train: tuple[str, str], val: tuple[str, str]) -> None:
    """Move the drawn images and label maps to where a dataset has them, given as 'folder/*ending'."""
    for split, patterns in (('train', train), ('val', val)):
        for kind, pattern in zip(('images', 'labels'), patterns, strict=True):
            for path in (source / kind / split).iterdir():
                target = source.parent / pattern.replace('*', path.stem)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)


def test_segmentation_of_ade20k(clone, label_map_folder, capfd):
    source = label_map_folder.rename(clone / 'data' / 'mine')
    folder = 'ade/ADEChallengeData2016'
    pairs = (
        (f'{folder}/images/{split}/*.jpg', f'{folder}/annotations/{split}/*.png')
        for split in ('training', 'validation')
    )
    move_pairs(source, *pairs)
    train, test = commands('ade20k')
    call(f'{train} {SHORT_SEGMENTATION}')
    checkpoint = Path(shlex.split(test)[3])
    checkpoint.with_name('iter_1.pth').rename(checkpoint)
    call(f'{test} --cfg-options {TINY} test_dataloader.num_workers=0 test_dataloader.dataset.pipeline.1.{SCALE}')
    assert 'mIoU' in capfd.readouterr().out and Path('label_maps.pkl').is_file()


def test_segmentation_of_cityscapes(clone, label_map_folder):
    source = label_map_folder.rename(clone / 'data' / 'mine')
    pairs = (
        (
            f'cityscapes/leftImg8bit/{split}/a/*_leftImg8bit.png',
            f'cityscapes/gtFine/{split}/a/*_gtFine_labelTrainIds.png',
        )
        for split in ('train', 'val')
    )
    move_pairs(source, *pairs)
    (command,) = commands('cityscapes')
    call(f'{command} {SHORT_SEGMENTATION}')


def test_segmentation_of_your_own_label_maps(clone, label_map_folder):
    label_map_folder.rename(clone / 'data' / 'mine')
    (command,) = commands('label_maps')
    call(f'{command} {SHORT_SEGMENTATION}')
    (lines,) = [block for block in blocks('text') if 'train_labels' in block]
    assert lines in (REPO / 'configs' / 'segmentation' / 'semantic_fpn_xvit_s_custom.py').read_text()


def test_training_and_testing_on_cifar(clone, cifar_folder, capfd):
    cifar_folder.rename(clone / 'data' / 'cifar10')
    train, test = commands('cifar')
    call(f'{train} {SHORT}')
    checkpoint = Path(shlex.split(test)[3])
    checkpoint.with_name('epoch_1.pth').rename(checkpoint)
    call(f'{test} --cfg-options test_dataloader.num_workers=0')
    assert '98.4' in capfd.readouterr().out  # the paper's top-5


def test_training_on_tiny_imagenet(clone, tiny_imagenet_folder, capfd):
    tiny_imagenet_folder.rename(clone / 'data' / 'tinyimagenet')
    (command,) = commands('tiny_imagenet')
    call(f'{command} {SHORT}')
    assert 'accuracy/top1' in capfd.readouterr().out


def test_starting_from_weights(clone, capfd):
    """The files that the commands name have their projects' names for weights that nobody has trained."""
    theirs = {
        name: timm.create_model(name).state_dict() for name in ('xcit_small_12_p16_224', 'deit_small_patch16_224')
    }
    torch.save(dict(model=theirs['xcit_small_12_p16_224']), 'xcit_small_12_p16_224.pth')
    torch.save(dict(model=theirs['deit_small_patch16_224']), 'deit_small_patch16_224-cd65a155.pth')
    detector = xvit_det.create_model('mask_rcnn_xcit_small_12_p16_3x').state_dict()
    weights = {name: weight for name, weight in detector.items() if not name.startswith('backbone.')}
    weights |= {
        f'backbone.{n}': w for n, w in theirs['xcit_small_12_p16_224'].items() if n.startswith(('patch', 'pos', 'bl'))
    }
    fpn = (('backbone.pyramid.levels.0', 'backbone.fpn1'), ('backbone.pyramid.levels.1', 'backbone.fpn2'))
    weights |= {n.replace(*names): w for n, w in detector.items() for names in fpn if n.startswith(names[0])}
    torch.save(dict(state_dict=weights, meta=dict(epoch=36)), 'maskrcnn_xcit_small_12_p16.pth')
    for command in commands('convert'):
        kind = command.split()[1]
        small = dict(
            convert='', test=f'--cfg-options {SMALL_TEST}', train=f'{SHORT} {MULTISCALE}'.removeprefix('--cfg-options ')
        )
        call(f'{command} {small[kind]}')
    output = capfd.readouterr().out
    assert output.count('Written: ') == 3 and f'{len(detector)} of {len(detector)}' in output


@pytest.mark.parametrize('command', commands('selfsup'))
def test_self_supervised_training(command, clone, coco_folder):
    (clone / 'data' / 'imagenet').symlink_to(coco_folder)
    (clone / 'data' / 'photos').symlink_to(coco_folder / 'train')
    small = 'train_dataloader.batch_size=2 train_dataloader.dataset.pipeline.1.transforms.0.0.scale=32'
    if 'distill' in command:
        teacher = xvit_det.XViT(arch='small_12', mixer='xca', out_type='featmap')
        torch.save(teacher.state_dict(), clone / 'xcit_small_12_p16_224.pth')
    else:
        small += ' model.queue_len=4'
    call(f'{command} --cfg-options train_cfg.max_epochs=1 train_dataloader.num_workers=0 {small}')
    assert (clone / 'work_dirs' / command.split()[2] / 'epoch_1.pth').is_file()


def test_several_machines(clone):
    """Two machines are two local processes; one machine with several is in test_distributed.py."""
    one_machine, two_machines = commands('machines')
    assert '--nproc-per-node 8 ' in succeed(shell(one_machine, clone, PYTHON='echo'))
    local = two_machines.replace('10.0.0.1', '127.0.0.1').replace(' 8 ', ' 1 ') + f' {SHORT} {TINY} {MULTISCALE}'
    other = local.replace('NODE_RANK=0', 'NODE_RANK=1') + ' --work-dir work_dirs/other'
    variables = dict(PORT=str(get_free_port()), OMP_NUM_THREADS='1')
    succeed(shell(local, clone, **variables), shell(other, clone, **variables))


def test_slurm(clone):
    """Without a cluster: a stand-in for srun shows what it would start."""
    (clone / 'srun').write_text('#!/bin/sh\necho "$@"\n')
    (clone / 'srun').chmod(0o755)
    (command,) = commands('slurm')
    path = os.pathsep.join([str(clone), str(Path(sys.executable).parent), os.environ['PATH']])
    output = succeed(shell(command, clone, PATH=path))
    assert '--ntasks 16' in output and '--partition PARTITION' in output
    assert 'train.py configs/mask_rcnn_xvit_s_3x.py --launcher slurm --data-root data/coco' in output


@pytest.mark.parametrize('command', commands('models'))
def test_models_and_environment(command, capsys):
    call(command)
    out = capsys.readouterr().out
    assert ('mask_rcnn_' in out) == ('models' in command) and ('features' in out) == ('env' in command)


def test_shapes(clone):
    for command in commands('shapes'):
        call(command.replace('1000', '2') + ' --val-images 1')
        assert len([*Path(command.split()[2], 'train2017').iterdir()]) == 2


def test_checking_data(clone, capsys):
    for command in commands('check_data'):
        call(command)
    assert 'airplane' in capsys.readouterr().out and Path('classes.png').is_file() and Path('repaired.json').is_file()


@pytest.mark.parametrize('command', commands('ablate'))
def test_ablating_blocks(command, clone, capsys):
    config, checkpoint = command.split()[2:4]
    Path(checkpoint).parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(xvit_det.create_model(config).state_dict(), checkpoint)
    call(f'{command} --cfg-options test_dataloader.dataset.num_train=1 test_dataloader.dataset.num_val=2')
    assert '│ blocks.0' in capsys.readouterr().out
    assert len([*Path('work_dirs', config).glob('ablate_*.png')]) == 1


def test_table_and_plot_of_a_record(clone, capsys):
    for name in ('speed.json', 'detectors.json'):
        shutil.copy(REPO / 'benchmarks' / 'cpu' / name, clone)
    for command in commands('record'):
        call(command)
    shown = capsys.readouterr().out
    assert '| fp32, fused |' in shown and 'after `fuse()`' in shown and (clone / 'speed.png').is_file()


@pytest.mark.parametrize('command', commands('long'))
def test_options_of_what_takes_long(command, monkeypatch, capsys):
    words = shlex.split(command)[1:]
    program = [words[0], *(word for word in words[1:2] if 'tools/' in words[0]), '--help']
    monkeypatch.setattr(sys, 'argv', program)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(REPO / words[0]), run_name='__main__')
    assert not done.value.code
    known = set(re.findall(r'--[a-z][\w-]*', capsys.readouterr().out))
    assert {word for word in words if word.startswith('--')} <= known


FEW_SCENES = 'train_cfg.max_epochs=1 ' + ' '.join(
    f'{part}_dataloader.dataset.num_{split}={number}'
    for part in ('train', 'val', 'test')
    for split, number in (('train', 4), ('val', 2))
)


def test_demo_without_attention(clone):
    (command,) = commands('no_attention')
    call(f'{command} {FEW_SCENES}')
    assert (clone / 'work_dirs' / 'mask_rcnn_xvit_context' / 'epoch_1.pth').is_file()


def test_linearizing(clone):
    train, linearize, test, tune = commands('linearize')
    call(f'{train} {FEW_SCENES}')
    checkpoint = Path(shlex.split(linearize)[3])
    checkpoint.with_name('epoch_1.pth').rename(checkpoint)
    call(f'{linearize} {FEW_SCENES}'.replace('--steps 300', '--steps 3'))
    call(test)
    call(tune)
    assert Path(shlex.split(tune)[2]).with_name('epoch_1.pth').is_file()


@pytest.fixture
def photos(clone) -> None:
    """What a demo leaves, untrained: its checkpoint, scenes, and some of them as photos and as a film."""
    (scenes,) = {command.split()[2] for command in commands('predict') if 'shapes' in command}
    images = ensure_shapes(clone / Path(scenes).parent, ContextSpec(num_train=1, num_val=3)) / 'val2017'
    model = xvit_det.create_model('mask_rcnn_xvit_context')
    folder = clone / 'work_dirs' / 'demo'
    folder.mkdir(parents=True)
    model.cfg.dump(folder / 'mask_rcnn_xvit_context.py')
    torch.save(model.state_dict(), folder / 'checkpoint.pth')
    (clone / 'photos' / 'more').mkdir(parents=True)
    frames = [cv2.imread(str(path)) for path in sorted(images.iterdir())]
    cv2.imwrite(str(clone / 'photos' / 'one.jpg'), frames[0])
    cv2.imwrite(str(clone / 'photos' / 'more' / 'two.png'), frames[1])
    writer = cv2.VideoWriter(str(clone / 'film.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 25, (384, 128))
    for frame in frames:
        writer.write(frame)
    writer.release()


def test_exporting_and_predicting(photos, capsys, clone):
    for command in commands('export'):
        if 'infer.py' in command:
            assert 'boxes' in succeed(shell(command, clone))
        else:
            call(command)
            assert 'predictions compared' in capsys.readouterr().out
    assert Path('one.png').is_file()
    for command in commands('predict'):
        call(command)
        assert 'predictions.json' in capsys.readouterr().out
    assert Path('drawn/more/two.png').is_file() and Path('predictions/film.mp4').is_file()


@pytest.fixture
def other(photos) -> None:
    """Another checkpoint of the same model."""
    folder = Path('work_dirs/mask_rcnn_xvit_context')
    shutil.copytree('work_dirs/demo', folder)
    (folder / 'checkpoint.pth').rename(folder / 'epoch_6.pth')


def test_pages(other, clone):
    for command in commands('web'):
        page = shell(f'exec {sys.executable} -m {command.replace("xvit-det", "xvit_det")} --port 0', clone)
        output = page.stdout.readline()
        while page.poll() is None and 'Open ' not in output:
            output += page.stdout.readline()
        page.terminate()
        assert 'Open http://127.0.0.1:' in output and page.wait(timeout=20) == 0, output


def test_looking(other):
    for command in commands('look'):
        call(f'{command} --score 0')  # an untrained detector has no better ones
    assert {path.name for path in Path('look').iterdir()} == {
        *('features.png', 'tokens.png', 'gradcam.png', 'receptive_field.png')
    }


@pytest.mark.parametrize('code', blocks('python'))
def test_python(code, clone, monkeypatch, request):
    if 'work_dirs/demo/' in code:
        request.getfixturevalue('photos')
    # A reader's process has just started: no other test's default scope is in it.
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
    if '_base_' in code:
        (clone / 'mine.py').write_text(code)
        check_model(read_config('mine.py'))
        # Nobody has trained a teacher here, or can download one.
        without = {'lad': dict(teacher_ckpt=None), 'distill': dict(teacher=dict(init_cfg=None))}
        overrides = next((changes for name, changes in without.items() if name in code), {})
        model = xvit_det.create_model('mine.py', **overrides)
        for name in ('student', 'detector'):  # of semi-supervised models and trackers
            model = getattr(model, name, model)
        backbone = model.image_encoder[0] if hasattr(model, 'image_encoder') else model.backbone
        assert f"type='{type(backbone).__name__}'" in code or 'distill' in code
    elif code.startswith('init_cfg'):
        namespace: dict = {}
        exec(code, namespace)
        xvit_det.XViT(arch='tiny', init_cfg=namespace['init_cfg'])
    elif 'CocoDetection' in code:
        ensure_shapes('data/shapes', ShapesSpec(num_train=5, num_val=2))
        short, first, second = re.sub(r'epochs = (.*), \d+', r'epochs = \1, 1', code), {}, {}
        exec(short, first)
        exec(short, second)  # from the checkpoint, after the last epoch
        assert (first['done'], second['done']) == (0, 1)
        assert first['mean_ap'] == second['mean_ap'] and set(first['mean_ap']) == {'bbox', 'segm'}
    else:
        exec(compile(code, 'docs', 'exec'), {})


def test_what_the_text_names_exists():
    names, files = set(), set()
    for path, page in PAGES.items():
        for target in re.findall(r'\]\(([^)#]+)[^)]*\)', page):
            assert target in ('contributing.md',) or (path.parent / target).exists(), (path.name, target)
        names |= {
            *re.findall(r'`((?:mask_rcnn|semantic_fpn|upernet)_\w+[a-z0-9]|\w+_(?:in1k|cifar10|tinyimagenet))`', page)
        }
        files |= {*re.findall(r'`((?:xvit_det|configs|tools|benchmarks|requirements)/[\w./]+)`', page)}
        for name, file in re.findall(r'`(\w+)` in `(xvit_det/[\w./]+)`', page):
            assert re.search(rf'^(class|def) {name}\b', (REPO / file).read_text(), re.MULTILINE), (name, file)
    assert names <= set(xvit_det.list_models())
    assert not [file for file in files if not (REPO / file).exists()]


def test_readme_is_short():
    assert len((REPO / 'README.md').read_text().splitlines()) <= 200


def test_the_site_builds_and_needs_no_network(tmp_path):
    command = f'{sys.executable} -m mkdocs build --quiet --strict --site-dir {tmp_path}'
    succeed(shell(command, REPO, NO_MKDOCS_2_WARNING='1'))
    for page in tmp_path.glob('*.html'):
        assert not re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="(?:https?:)?//[^"]+', page.read_text())
    assert (tmp_path / 'benchmarks' / 'cpu' / 'speed.png').is_file()

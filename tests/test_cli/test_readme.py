"""Every command and every piece of Python in the README is executed, as it stands there, on small data."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.utils.distributed import get_free_port

REPO = Path(__file__).resolve().parents[2]
README = (REPO / 'README.md').read_text()

# Two pictures, one epoch, no processes for loading: the command stays what it is, its work gets small.
SHORT = (
    '--cfg-options train_cfg.max_epochs=1 train_dataloader.dataset.indices=2 '
    'train_dataloader.num_workers=0 val_dataloader.num_workers=0'
)

pytestmark = pytest.mark.heavy


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', README, flags=re.MULTILINE | re.DOTALL)


def commands(first_word: str) -> list[str]:
    """The README's shell commands whose first word, after variables, is the given one; comments taken off."""
    lines = [line.split('  #')[0].strip() for block in blocks('bash') for line in block.splitlines()]
    return [line for line in lines if re.sub(r'^(\w+=\S+ )+', '', line).split()[0] == first_word]


def detection_commands() -> list[str]:
    return [command for command in commands('python') if 'mask_rcnn' in command]


def cifar_commands() -> list[str]:
    return [command for command in commands('python') if 'cifar10' in command]


def tiny_imagenet_commands() -> list[str]:
    return [command for command in commands('python') if 'tinyimagenet' in command]


def benchmark_commands() -> list[str]:
    return [command for command in commands('python') if 'tools/benchmark.py' in command]


@pytest.fixture
def clone(tmp_path, draw_coco) -> Path:
    """A folder that looks like the clone with COCO in it: two pictures with COCO's 80 class names."""
    from mmdet.datasets import CocoDataset

    for name in ('configs', 'tools', 'xvit_det', 'Makefile'):
        (tmp_path / name).symlink_to(REPO / name)
    coco = draw_coco(tmp_path / 'data' / 'coco', CocoDataset.METAINFO['classes'])
    for split in ('train', 'val'):
        (coco / split).rename(coco / f'{split}2017')
        (coco / 'annotations' / f'{split}.json').rename(coco / 'annotations' / f'instances_{split}2017.json')
    return tmp_path


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


def test_no_command_is_forgotten():
    known = {'make', 'python', 'tools/dist_train.sh', 'tools/slurm_train.sh'}
    for block in blocks('bash'):
        for line in filter(None, block.splitlines()):
            assert re.sub(r'^(\w+=\S+ )+', '', line).split()[0] in known, line
    executed = [*detection_commands(), *cifar_commands(), *tiny_imagenet_commands(), *benchmark_commands()]
    executed.append('python tools/paper_tables.py')
    assert sorted(commands('python')) == sorted(executed) and len(commands('tools/dist_train.sh')) == 2


def test_make_knows_its_targets(clone):
    inline = re.findall(r'`(make [^`]+)`', README)
    assert {'make demo', 'make test'} <= {*commands('make')} <= {*commands('make'), *inline}
    for command in {*commands('make'), *inline}:
        succeed(shell(f'{command} --dry-run', clone))


def test_training_and_testing(clone):
    train, test = detection_commands()
    succeed(shell(f'{train} {SHORT}', clone))
    checkpoint = clone / shlex.split(test)[3]
    shutil.move(checkpoint.with_name('epoch_1.pth'), checkpoint)
    output = succeed(shell(f'{test} --cfg-options test_dataloader.num_workers=0', clone))
    assert '451 of 451 weights matched' in output
    assert '44.6' in output or 'found nothing' in output  # a table, unless two steps of training taught nothing yet


def test_training_and_testing_on_cifar(clone, cifar_folder, monkeypatch, capfd):
    """In this process, where the fixture has taken the real files' check sums away."""
    from xvit_det.cli.test import main as evaluate
    from xvit_det.cli.train import main as train

    (clone / 'data').mkdir(exist_ok=True)
    cifar_folder.rename(clone / 'data' / 'cifar10')
    monkeypatch.chdir(clone)
    train_argv, test_argv = (shlex.split(command)[2:] for command in cifar_commands())
    train([*train_argv, *shlex.split(SHORT)])
    checkpoint = Path(test_argv[1])
    checkpoint.with_name('epoch_1.pth').rename(checkpoint)
    evaluate([*test_argv, '--cfg-options', 'test_dataloader.num_workers=0'])
    assert '98.4' in capfd.readouterr().out  # the paper's top-5


def test_training_on_tiny_imagenet(clone, tiny_imagenet_folder):
    tiny_imagenet_folder.rename(clone / 'data' / 'tinyimagenet')
    (command,) = tiny_imagenet_commands()
    assert 'accuracy/top1' in succeed(shell(f'{command} {SHORT}', clone))


def test_the_benchmark_beside_peers(clone):
    (command,) = benchmark_commands()
    small = command.replace('xvit_s xcit_s12 deit_s', 'xvit_t xcit_t12 deit_t').replace('800x1344', '32')
    assert 'swin_t' in succeed(shell(f'{small} --repeats 1', clone))
    assert len(json.loads((clone / 'speed.json').read_text())['rows']) == 5  # four in eager mode, and X-ViT fused


def test_several_processes_and_machines(clone):
    one_machine, two_machines = commands('tools/dist_train.sh')
    tiny = ' model.backbone.arch=tiny model.neck.in_channels="[192,192,192,192]"'
    succeed(
        shell(
            one_machine.replace(' 8 ', ' 2 ') + f' {SHORT} {tiny}',
            clone,
            PORT=str(get_free_port()),
            OMP_NUM_THREADS='1',
        )
    )
    local = two_machines.replace('10.0.0.1', '127.0.0.1').replace(' 8 ', ' 1 ') + f' {SHORT} {tiny}'
    other = local.replace('NODE_RANK=0', 'NODE_RANK=1') + ' --work-dir work_dirs/other'
    variables = dict(PORT=str(get_free_port()), OMP_NUM_THREADS='1')
    succeed(shell(local, clone, **variables), shell(other, clone, **variables))


def test_slurm(clone):
    """Without a cluster: a stand-in for srun shows what it would start."""
    (clone / 'srun').write_text('#!/bin/sh\necho "$@"\n')
    (clone / 'srun').chmod(0o755)
    (command,) = commands('tools/slurm_train.sh')
    path = os.pathsep.join([str(clone), str(Path(sys.executable).parent), os.environ['PATH']])
    output = succeed(shell(command, clone, PATH=path))
    assert '--ntasks 16' in output and '--partition PARTITION' in output
    assert 'train.py configs/mask_rcnn_xvit_s_3x.py --launcher slurm --data-root data/coco' in output


@pytest.mark.parametrize('code', blocks('python'))
def test_python(code, clone):
    if '_base_' in code:
        (clone / 'mine.py').write_text(code)
        code = "import xvit_det; print(type(xvit_det.create_model('mine.py').backbone).__name__)"
        assert 'XViT' in succeed(shell(f'{sys.executable} -c {shlex.quote(code)}', clone))
    elif code.startswith('init_cfg'):
        namespace: dict = {}
        exec(code, namespace)
        from xvit_det import XViT

        XViT(arch='tiny', init_cfg=namespace['init_cfg'])
    else:
        succeed(shell(f'{sys.executable} -c {shlex.quote(code)}', clone))


def test_modules_named_in_the_text(clone):
    for module in set(re.findall(r'`(python -m [\w.]+)`', README)):
        succeed(shell(module, clone, PYTHONPATH=str(REPO)))


def test_files_named_in_the_text_exist():
    for target in re.findall(r'\]\(([^)#]+)\)', README):
        assert target.startswith('http') or (REPO / target).exists(), target
    import xvit_det

    names = re.findall(r'`(mask_rcnn_\w+|\w+_(?:in1k|cifar10|tinyimagenet))`', README)
    assert set(names) <= set(xvit_det.list_models())

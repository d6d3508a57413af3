"""``xvit-det convert``, and other projects' files in the other commands: they evaluate what is in the file."""

import argparse
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from xvit_det.cli.convert import main as convert
from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train

# An XCiT of 32 channels, as timm's Xcit below.
XCIT = """
model = dict(
    backbone=dict(
        mixer='xca',
        arch=dict(
            _delete_=True, embed_dims=32, depth=4, attn_dims=32, num_heads=2, mlp_ratio=4, num_class_layers=2,
            layer_scale=1.0, class_block='xcit', tokens_norm=True, ceil_pool=False)))
"""


@pytest.fixture
def xcit(tmp_path) -> tuple[nn.Module, Path]:
    """A model of timm's, and a file as XCiT's authors write it."""
    torch.manual_seed(0)
    model = timm.models.xcit.Xcit(embed_dim=32, depth=4, num_heads=2, num_classes=10, tokens_norm=True)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0, 0.3)
    path = tmp_path / 'theirs.pth'
    torch.save(dict(model=model.state_dict()), path)
    return model.eval(), path


@pytest.fixture
def config(tmp_path, cifar_config) -> str:
    path = tmp_path / 'small_xcit.py'
    path.write_text(f"_base_ = '{cifar_config}'\n{XCIT}")
    return str(path)


@pytest.fixture
def scores(cifar_folder, xcit) -> torch.Tensor:
    """What the model of timm's says of the images that the config tests on."""
    batch = pickle.loads((cifar_folder / 'cifar-10-batches-py' / 'batch').read_bytes())
    images = torch.from_numpy(batch['data'].reshape(-1, 3, 32, 32)).float()
    with torch.no_grad():
        return xcit[0]((images - 128) / 64).softmax(dim=1)


@pytest.mark.parametrize('form', ['theirs', 'converted', 'pth'])
def test_what_is_evaluated_is_what_is_in_the_file(
    form, config, xcit, scores, cifar_folder, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    path = xcit[1]
    if form != 'theirs':
        convert(
            [str(path), '--config', config, '--format', 'pth' if form == 'pth' else 'safetensors', '--output']
            + [f'new.{"pth" if form == "pth" else "safetensors"}']
        )
        path = next(Path().glob('new.*'))
    evaluate([config, str(path), '--data-root', str(cifar_folder), '--out', 'out.pkl'])
    found = torch.stack([result['pred_score'] for result in pickle.loads(Path('out.pkl').read_bytes())])
    torch.testing.assert_close(found, scores, rtol=1e-5, atol=1e-6)
    assert scores.max() - scores.min() > 0.1  # a model that was not loaded finds all classes equal
    output = capfd.readouterr()
    assert ' 0 missing, 0 unexpected' in output.out + output.err


def test_training_starts_from_it(config, xcit, cifar_folder, tmp_path, monkeypatch):
    """After one step with a learning rate of zero, the checkpoint holds the file's weights."""
    monkeypatch.chdir(tmp_path)
    options = [f'load_from={xcit[1]}', 'optim_wrapper.optimizer.lr=0', 'train_cfg.max_epochs=1']
    train([config, '--data-root', str(cifar_folder), '--work-dir', 'run', '--cfg-options', *options])
    weights = torch.load('run/epoch_1.pth', weights_only=False)['state_dict']
    theirs = xcit[0].state_dict()
    assert torch.equal(weights['backbone.blocks.3.norm2.weight'], theirs['blocks.3.norm3.weight'])
    assert torch.equal(weights['head.fc.weight'], theirs['head.weight'])


def test_the_wrong_config_is_refused_before_anything_is_evaluated(cifar_config, xcit, cifar_folder, capfd):
    with pytest.raises(SystemExit) as stop:
        evaluate([cifar_config, str(xcit[1]), '--data-root', str(cifar_folder)])
    assert stop.value.code == 2
    message = capfd.readouterr().err
    assert 'XCiT' in message and 'this XViT has no place for' in message and 'Traceback' not in message


def test_what_the_command_prints_and_writes(config, xcit, tmp_path, capsys):
    convert([str(xcit[1]), '--config', config])
    out = capsys.readouterr().out
    assert 'theirs.pth: XCiT 4 blocks of width 32, patch 16, classifier' in out
    with safe_open(tmp_path / 'theirs.safetensors', framework='pt') as file:
        header, number = file.metadata(), len(file.keys())
    assert f'{number} of {number}' in out and 'left over' not in out and 'missing' not in out
    assert header['config'] == 'small_xcit' and header['source'] == 'theirs.pth'
    assert f'xvit-det test {config} {tmp_path / "theirs.safetensors"} --data-root DIR' in out
    assert f'load_from={tmp_path / "theirs.safetensors"}' in out
    with pytest.raises(SystemExit):
        convert([str(xcit[1]), '--config', config])
    assert 'theirs.safetensors exists already; give another file with --output' in capsys.readouterr().err


def test_what_is_left_over_and_missing_is_named(config, xcit, tmp_path, capsys):
    weights = torch.load(xcit[1])['model']
    weights |= {'head.weight': torch.zeros(7, 32), 'head_of_another.weight': torch.zeros(1)}
    torch.save(weights, tmp_path / 'odd.pth')
    with pytest.raises(SystemExit):
        convert([str(tmp_path / 'odd.pth'), '--config', config])
    assert 'head_of_another.weight' in capsys.readouterr().err
    del weights['head_of_another.weight']
    torch.save(weights, tmp_path / 'odd.pth')
    convert([str(tmp_path / 'odd.pth'), '--config', config, '--mixer', 'nystrom'])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'missing: head.fc' in out and '(7, 32) in the file, (10, 32) in the model' in out
    assert 'anew: backbone.blocks.#.attn.conv' in out and 'left over: backbone.blocks.#.attn.temperature' in out
    assert 'xvit-det test' not in out and 'model.backbone.mixer=nystrom load_from=' in out


def test_code_is_run_only_if_it_is_trusted(config, xcit, tmp_path, capsys):
    torch.save(torch.load(xcit[1]) | dict(args=argparse.Namespace(lr=1)), tmp_path / 'more.pth')
    command = [str(tmp_path / 'more.pth'), '--config', config]
    with pytest.raises(SystemExit):
        convert(command)
    assert 'more.pth --trust' in capsys.readouterr().err
    convert([*command, '--trust'])
    assert (tmp_path / 'more.safetensors').is_file()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['nowhere.pth'], 'nowhere.pth does not exist'),
        (['FILE'], 'for which there is no config; give yours with --config'),
        (['FILE', '--config', 'xcit_nano'], "no config 'xcit_nano'"),
        (['FILE', '--config', 'CONFIG', '--mixer', 'linear'], "mixer 'linear' is not one of"),
        (['FILE', '--config', 'CONFIG', '--output', 'x.bin'], "'x.bin' must end in .pth or .safetensors"),
    ],
)
def test_mistakes(options, message, config, xcit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        convert([{'FILE': str(xcit[1]), 'CONFIG': config}.get(option, option) for option in options])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count('\n') == 1


def test_weights_alone_are_nothing_to_resume_from(config, xcit, cifar_folder, capfd):
    with pytest.raises(SystemExit) as stop:
        train([config, '--data-root', str(cifar_folder), '--resume', str(xcit[1])])
    assert stop.value.code == 2 and 'start from them with load_from instead' in capfd.readouterr().err

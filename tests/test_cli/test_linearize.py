"""``xvit-det linearize``: what it writes can be tested and trained, it resumes, and refuses what it cannot use."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import xvit_det
from xvit_det.cli.linearize import main as linearize
from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train
from xvit_det.datasets.images import UnlabelledImages
from xvit_det.engine.linearize import Linearization, find_mixers
from xvit_det.errors import InputError

XCA = "\nmodel['backbone'].update(mixer='xca')\n"


def save(config: str, path: str = 'teacher.pth') -> str:
    torch.manual_seed(0)
    torch.save(xvit_det.create_model(config).state_dict(), path)
    return path


@pytest.fixture
def detector(coco_folder, write_config, tmp_path, monkeypatch) -> list[str]:
    """Config and checkpoint of a detector with XCA."""
    monkeypatch.chdir(tmp_path)
    config = write_config(coco_folder, XCA)
    return [config, save(config)]


@pytest.fixture
def photographs(tmp_path) -> str:
    """Images of several sizes, one in a folder of its own, beside a text."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'photos'
    (folder / 'inside').mkdir(parents=True)
    for name, (h, w) in {'a.png': (40, 60), 'b.JPG': (70, 50), 'inside/c.jpeg': (48, 48)}.items():
        Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)).save(folder / name)
    (folder / 'readme.txt').write_text('no image')
    return str(folder)


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)['state_dict']


@pytest.mark.heavy
def test_what_it_writes_can_be_tested_and_trained(detector, capfd):
    linearize([*detector, '--mixer', 'xnorm', '--mixer-options', 'attn_dims=8', '--steps', '4', '--work-dir', 'new'])
    screen = capfd.readouterr().out
    assert 'To test it:  xvit-det test new/new.py new/linearized.pth' in screen
    assert 'To train it: xvit-det train new/new.py' in screen
    assert screen.count('│ blocks.') == 4 and cv2.imread('new/linearize.png').std() > 10
    figures = json.loads(Path('new/linearize.json').read_text())
    assert [*figures] == [f'blocks.{i}' for i in range(4)] and figures['blocks.0'].keys() == {'start', 'end'}

    before, after = torch.load('teacher.pth', weights_only=True), weights('new/linearized.pth')
    model = xvit_det.create_model('new/new.py', pretrained='new/linearized.pth')
    assert model.state_dict().keys() == after.keys()
    mixers = find_mixers(model.backbone).values()
    assert {type(mixer).__name__ for mixer in mixers} == {'XNormAttention'}
    assert {mixer.proj.in_features for mixer in mixers} == {8}
    inside = tuple(f'backbone.{name}.' for name, module in model.backbone.named_modules() if module in mixers)
    assert all(name.startswith(inside) or torch.equal(weight, before[name]) for name, weight in after.items())

    evaluate(['new/new.py', 'new/linearized.pth'])
    whole = len(after)
    assert f'{whole} of {whole} weights matched, 0 missing, 0 unexpected' in capfd.readouterr().out
    train(['new/new.py', '--cfg-options', 'train_cfg.max_epochs=1'])
    assert f'new/linearized.pth: {whole} of {whole} weights matched' in capfd.readouterr().out
    trained = weights('new/epoch_1.pth')
    assert trained.keys() == after.keys() and not torch.equal(
        trained[f'{inside[0]}proj.bias'], after[f'{inside[0]}proj.bias']
    )


@pytest.mark.heavy
def test_options_are_in_the_config_that_it_writes(detector, coco_folder):
    shutil.move(coco_folder, 'elsewhere')
    options = [
        '--data-root',
        'elsewhere',
        '--cfg-options',
        'model.backbone.layer_scale=0.5',
        'optim_wrapper.optimizer.lr=0.5',
    ]
    linearize([*detector, '--mixer', 'softmax', '--steps', '1', '--work-dir', 'new', *options])
    model = xvit_det.create_model('new/new.py')
    assert model.backbone.blocks[0].affine1.alpha[0] == 0.5 and model.cfg.optim_wrapper.optimizer.lr == 0.5
    evaluate(['new/new.py', 'new/linearized.pth'])


@pytest.mark.heavy
def test_resuming_ends_with_the_same_weights(detector, monkeypatch):
    common = [*detector, '--mixer', 'xnorm', '--steps', '3', '--map-steps', '2']
    linearize([*common, '--work-dir', 'whole'])
    forward = Linearization.forward

    def stop(model: Linearization, *args, **kwargs):
        if model.steps == 2:
            raise KeyboardInterrupt
        return forward(model, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Linearization, 'forward', stop)
        linearize([*common, '--work-dir', 'parts'])
    assert not Path('parts/linearized.pth').exists()
    linearize([*common, '--work-dir', 'parts', '--resume'])
    whole, parts = weights('whole/linearized.pth'), weights('parts/linearized.pth')
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())
    assert Path('whole/linearize.json').read_text() == Path('parts/linearize.json').read_text()
    with pytest.raises(SystemExit):  # another mixer's checkpoint
        linearize([*common, '--work-dir', 'parts', '--resume', '--mixer-options', 'attn_dims=8'])


@pytest.mark.heavy
def test_a_folder_of_images(detector, photographs, coco_folder):
    shutil.rmtree(coco_folder)  # no annotation is needed
    linearize(
        [*detector, '--mixer', 'nystrom', '--mixer-options', 'landmarks=4', '--steps', '3', '--images', photographs]
    )
    folder = Path('work_dirs/tiny_nystrom')
    assert (folder / 'linearized.pth').is_file() and (folder / 'tiny_nystrom.py').is_file()


@pytest.mark.heavy
def test_a_classifier(cifar_config, photographs, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path('cls.py').write_text(Path(cifar_config).read_text() + XCA)
    argv = ['cls.py', save('cls.py'), '--mixer', 'xnorm', '--steps', '2', '--data-root', 'cifar', '--work-dir', 'new']
    linearize(argv)
    evaluate(['new/new.py', 'new/linearized.pth'])
    with pytest.raises(SystemExit):
        linearize([*argv, '--images', photographs])
    assert 'the test images of config cls.py are not read from files of their own' in capfd.readouterr().err


@pytest.mark.heavy
def test_a_segmentor_with_mixed_precision(tmp_path, monkeypatch, photographs):
    monkeypatch.chdir(tmp_path)
    Path('scenes').mkdir()
    few = [
        f'{split}_dataloader.dataset.num_{part}={n}'
        for split in ('train', 'test')
        for part, n in (('train', 4), ('val', 2))
    ]
    argv = ['semantic_fpn_xvit_shapes', save('semantic_fpn_xvit_shapes'), '--mixer', 'softmax', '--steps', '2', '--amp']
    linearize([*argv, '--data-root', 'scenes', '--cfg-options', *few])
    linearize([*argv, '--images', photographs, '--work-dir', 'other'])
    folder = Path('work_dirs/semantic_fpn_xvit_shapes_softmax')
    evaluate([str(folder / f'{folder.name}.py'), str(folder / 'linearized.pth')])
    assert not torch.equal(
        *(weights(path / 'linearized.pth')['backbone.blocks.0.attn.proj.bias'] for path in (folder, Path('other')))
    )


def test_images_are_found_in_all_folders(photographs, tmp_path):
    paths = [info['img_path'] for info in UnlabelledImages(data_root=photographs)]
    assert [Path(path).name for path in paths] == ['a.png', 'b.JPG', 'c.jpeg']
    with pytest.raises(InputError, match='nowhere is not a folder of images'):
        UnlabelledImages(data_root='nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='hold no images'):
        UnlabelledImages(data_root=str(tmp_path / 'empty'))


@pytest.fixture
def refused(detector, capfd):
    """``refused(*options, config=..., checkpoint=...)``: the sentence with which the command refuses."""

    def run(*options: str, config: str = detector[0], checkpoint: str = detector[1]) -> str:
        with pytest.raises(SystemExit) as stop:
            linearize([config, checkpoint, *options])
        assert stop.value.code == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
        return line

    return run


def test_wrong_input_is_one_sentence(refused, write_config, coco_folder, detector, tmp_path):
    assert "mixer 'xnrom' is not one of softmax, performer" in refused('--mixer', 'xnrom')
    assert '--mixer: xca is the mixer that this model has already' in refused('--mixer', 'xca')
    assert 'mixer xnorm has no option width' in refused('--mixer', 'xnorm', '--mixer-options', 'width=3')
    assert "takes KEY=VALUE pairs, but got 'attn_dims'" in refused('--mixer', 'xnorm', '--mixer-options', 'attn_dims')
    assert '--steps must be at least 1, not 0' in refused('--mixer', 'xnorm', '--steps', '0')
    assert '--map-steps must be at least 0, not -1' in refused('--mixer', 'xnorm', '--map-steps', '-1')
    assert 'FourierMixer has no weights to train' in refused('--mixer', 'fourier')
    assert 'nowhere is not a folder of images' in refused('--mixer', 'xnorm', '--images', 'nowhere')
    (tmp_path / 'empty').mkdir()
    assert 'empty and the folders in it hold no images' in refused('--mixer', 'xnorm', '--images', 'empty')
    other = write_config(coco_folder, name='other')  # with XNorm attention
    assert 'is of another backbone than the config: it lacks' in refused('--mixer', 'softmax', config=other)
    assert '--mixer: xnorm is the mixer' in refused('--mixer', 'xnorm', config=other)  # the default
    softmax = write_config(coco_folder, "\nmodel['backbone'].update(mixer='softmax')\n", name='softmax')
    also = 'is of another backbone than the config: it also has backbone.blocks.0.attn.temperature and 7 other'
    assert also in refused('--mixer', 'xnorm', config=softmax)
    assert '--mixer-options: the type is that of --mixer' in refused('--mixer', 'xnorm', '--mixer-options', 'type=xca')
    Path('empty', 'damaged.jpg').write_bytes(b'')
    assert 'damaged.jpg cannot be prepared' in refused('--mixer', 'xnorm', '--images', 'empty')
    fused = xvit_det.create_model(detector[0])
    fused.backbone.fuse()
    torch.save(fused.state_dict(), 'fused.pth')
    assert 'is of another backbone than the config' in refused('--mixer', 'xnorm', checkpoint='fused.pth')
    assert 'nothing.pth does not exist' in refused('--mixer', 'xnorm', checkpoint='nothing.pth')
    Path('resnet.py').write_text(
        "_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/default_runtime.py']"
    )
    assert 'MaskRCNN has no backbone of xvit_det' in refused('--mixer', 'xnorm', config='resnet.py')
    Path('no_data.py').write_text(f'_base_ = {detector[0]!r}\ntrain_dataloader = None\n')
    assert 'has no train_dataloader' in refused('--mixer', 'xnorm', config='no_data.py')


@pytest.mark.heavy
def test_the_teacher_is_the_checkpoint_whatever_its_config_starts_from(detector, capfd):
    config, checkpoint = detector
    torch.manual_seed(1)
    torch.save(xvit_det.create_model(config).backbone.state_dict(), 'other.pth')
    start = ['model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=other.pth']
    linearize([config, checkpoint, '--mixer', 'xnorm', '--steps', '2', '--work-dir', 'new', '--cfg-options', *start])
    given = torch.load(checkpoint, weights_only=True)
    saved = weights('new/linearizing/iter_2.pth')
    for name, weight in saved.items():
        if name.startswith('teacher.'):
            assert torch.equal(weight, given[f'backbone.{name.removeprefix("teacher.")}']), name
    capfd.readouterr()
    other = save_other(config)
    with pytest.raises(SystemExit):
        linearize([config, other, '--mixer', 'xnorm', '--steps', '4', '--work-dir', 'new', '--resume'])
    assert 'is of another teacher than other_teacher.pth; give another --work-dir' in capfd.readouterr().err


def save_other(config: str) -> str:
    torch.manual_seed(2)
    model = xvit_det.create_model(config)
    torch.save(model.state_dict(), 'other_teacher.pth')
    return 'other_teacher.pth'


@pytest.mark.heavy
def test_a_backbone_alone_and_options_that_both_mixers_have(coco_folder, write_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    biased = "\nmodel['backbone'].update(mixer=dict(type='softmax', qkv_bias=True))\n"
    config = write_config(coco_folder, biased)
    model = xvit_det.create_model(config)
    names = {
        f'backbone.{name}': weight for name, weight in model.backbone.state_dict().items() if 'pyramid' not in name
    }
    torch.save(names, 'backbone.pth')
    few = ['--mixer-options', 'landmarks=4']  # of 16 tokens
    linearize([config, 'backbone.pth', '--mixer', 'nystrom', *few, '--steps', '2', '--work-dir', '.'])
    screen = capfd.readouterr().out
    assert 'To test it' not in screen and 'To train it' in screen
    written = f'{tmp_path.name}.py'
    config = Path(written).read_text()
    assert all(text in config for text in ("type='nystrom'", 'qkv_bias=True', 'landmarks=4'))

"""Self-supervised pretraining by the command, on folders of images, and its weights in a detector."""

import shutil
from pathlib import Path
from statistics import mean

import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image

import xvit_det
from xvit_det.cli.train import main as train
from xvit_det.hub import find_config

QUICK = [
    'train_dataloader.num_workers=0',
    'train_dataloader.batch_size=4',
    'train_dataloader.dataset.pipeline.1.transforms.0.0.scale=64',
    'train_cfg.max_epochs=1',
    'model.queue_len=16',
]


BODY = dict(embed_dims=128, depth=4, attn_dims=128, num_heads=4, mlp_ratio=4, num_class_layers=0, layer_scale=1.0)
FIFTY_STEPS = [
    'randomness.seed=0',
    'train_dataloader.num_workers=0',
    'train_dataloader.batch_size=8',
    'train_dataloader.dataset.pipeline.1.transforms.0.0.scale=64',
    'train_cfg.max_epochs=5',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
    'param_scheduler.1.end=5',
    'default_hooks.logger.interval=5',
]


@pytest.fixture(scope='module')
def photographs(coco_tiny, tmp_path_factory) -> Path:
    """Eighty real photographs, made small so that reading them takes no time."""
    folder = tmp_path_factory.mktemp('photographs') / 'train'
    folder.mkdir()
    for path in sorted((coco_tiny / 'train2017').iterdir()):
        Image.open(path).convert('RGB').resize((128, 96)).save(folder / path.name)
    return folder.parent


def write_config(name: str, **model) -> None:
    """``mine.py``: the config `name` with a small X-ViT, which trains in seconds."""
    model['backbone'] = dict(_delete_=True, type='XViT', arch=BODY, out_type='featmap')
    Path('mine.py').write_text(f'_base_ = [{str(find_config(name))!r}]\nmodel = {model}')


def losses(capfd, photographs: Path, *options: str) -> list[float]:
    """Train ``mine.py`` and read its losses from the screen."""
    train(['mine.py', '--data-root', str(photographs), '--cfg-options', *FIFTY_STEPS, *options])
    screen = capfd.readouterr()
    assert 'is skipped since' not in screen.out + screen.err  # for each weight of the momentum encoder
    return [float(line.split(' loss: ')[1].split()[0]) for line in screen.out.splitlines() if ' loss: ' in line]


def check_weights_in_a_detector(capfd) -> None:
    """A detector whose backbone starts from the last checkpoint of ``mine.py`` has its weights, and says so."""
    checkpoint = Path('work_dirs/mine/epoch_5.pth')
    start = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    backbone = dict(_delete_=True, type='XViT', arch=BODY, init_cfg=start)
    Path('detector.py').write_text(
        f'_base_ = [{str(find_config("mask_rcnn_xvit_s_3x"))!r}]\n'
        f'model = dict(backbone={backbone}, neck=dict(in_channels=[128] * 4))'
    )
    detector = xvit_det.create_model('detector.py')
    log = capfd.readouterr()
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    loaded = {key: value for key, value in detector.backbone.state_dict().items() if not key.startswith('pyramid.')}
    pretrained = {key.removeprefix('backbone.'): value for key, value in saved.items() if key.startswith('backbone.')}
    assert loaded.keys() == pretrained.keys() and any('.attn.' in key for key in loaded)
    for key, value in loaded.items():
        assert torch.equal(value, pretrained[key]), key
    assert f'{len(loaded)} matched' in log.out + log.err and '0 unexpected' in log.out + log.err


@pytest.mark.heavy
@pytest.mark.parametrize('method', ['densecl', 'mocov2'])
def test_photographs_to_a_detector(photographs, tmp_path, monkeypatch, capfd, method):
    """Both losses first rise, while the queue fills with keys: what shows learning is the same without it.

    Over three seeds the difference is at least 0.08; means of idle runs differ by 0.03.
    """
    monkeypatch.chdir(tmp_path)
    write_config(f'{method}_xvit_s_in1k_200e', neck=dict(in_channels=128), queue_len=64)
    idle = losses(capfd, photographs, 'optim_wrapper.optimizer.lr=0')
    learned = losses(capfd, photographs, 'optim_wrapper.optimizer.lr=1e-3')
    assert len(learned) == 10
    assert mean(learned[-3:]) < mean(idle[-3:]) - 0.05 and mean(learned[-3:]) < max(learned) - 0.1
    check_weights_in_a_detector(capfd)


def save_teachers() -> dict[str, dict]:
    """Networks that give maps, with weights in files: XCiT, a ViT, a ResNet, two maps of other strides."""
    teachers = {
        'xcit': (dict(type='XViT', arch=BODY, mixer='xca', out_type='featmap'), 128),
        'vit': (dict(type='ViX', arch='tiny', mixer='softmax', img_size=64, out_type='featmap'), 192),
        'resnet': (dict(type='mmpretrain.ResNet', depth=18), 512),
        'two_maps': (dict(type='mmpretrain.ResNet', depth=18, out_indices=(1, 2)), [128, 256]),
    }
    made = {}
    for name, (config, channels) in teachers.items():
        torch.manual_seed(1)
        torch.save(MODELS.build(config).state_dict(), f'{name}.pth')
        init_cfg = dict(type='Pretrained', checkpoint=f'{name}.pth')
        made[name] = dict(teacher=dict(_delete_=True, **config, init_cfg=init_cfg), teacher_channels=channels)
    return made


def test_another_networks_maps_to_a_detector(photographs, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_config('distill_xvit_s_in1k_200e', **save_teachers()['xcit'])
    idle = losses(capfd, photographs, 'optim_wrapper.optimizer.lr=0')
    learned = losses(capfd, photographs, 'optim_wrapper.optimizer.lr=1e-3')
    assert idle[-1] == pytest.approx(idle[0], rel=0.05) and learned[-1] < 0.4 * idle[-1]
    teacher = torch.load('xcit.pth', weights_only=True)
    for key, value in torch.load('work_dirs/mine/epoch_5.pth', weights_only=True)['state_dict'].items():
        if key.startswith('teacher.'):
            assert torch.equal(value, teacher[key.removeprefix('teacher.')]), key
    check_weights_in_a_detector(capfd)


@pytest.mark.parametrize('name', ['vit', 'resnet', 'two_maps'])
def test_any_network_with_maps_teaches(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    indices = dict(out_indices=(0, 2)) if name == 'two_maps' else {}
    backbone = dict(type='XViT', arch=BODY, out_type='featmap', **indices)
    options = save_teachers()[name]
    del options['teacher']['_delete_']
    model = MODELS.build(dict(type='FeatureDistillation', backbone=backbone, **options))
    model.init_weights()
    images = torch.randn(2, 3, 64, 64)
    found = model.train()([images], mode='loss')
    sum(found.values()).backward()
    assert len(found) == len(model.projections)
    assert not model.teacher.training and all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.backbone.parameters())
    assert [m.shape for m in model([images])] == [m.shape for m in model.backbone(images)]


def test_the_loss_is_zero_for_a_student_that_gives_the_teachers_normalised_maps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = save_teachers()['xcit']
    del options['teacher']['_delete_']
    model = MODELS.build(
        dict(type='FeatureDistillation', backbone=dict(type='XViT', arch=BODY, out_type='featmap'), **options)
    )
    model.init_weights()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        (target,) = model.teacher(images)
    target = torch.nn.functional.layer_norm(target.permute(0, 2, 3, 1), (128,)).permute(0, 3, 1, 2)
    torch.nn.init.dirac_(model.projections[0].weight)
    torch.nn.init.zeros_(model.projections[0].bias)
    model.extract_feat = lambda _: (target,)
    assert model([images], mode='loss')['loss_map0'].item() == pytest.approx(0, abs=1e-12)
    model.extract_feat = lambda _: (target.flip(0),)  # of the other image
    assert model([images], mode='loss')['loss_map0'].item() > 0.01


def test_a_teacher_that_cannot_teach(photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ['mine.py', '--data-root', str(photographs), '--cfg-options', *FIFTY_STEPS]
    write_config('distill_xvit_s_in1k_200e')
    assert 'model.teacher has random weights: give it init_cfg' in fail(*argv, capsys=capsys)
    whole = dict(type='mmpretrain.ResNet', depth=18)
    torch.save({f'backbone.{k}': w for k, w in MODELS.build(whole).state_dict().items()}, 'whole.pth')
    init = dict(type='Pretrained', checkpoint='whole.pth')
    teacher = dict(_delete_=True, **whole, init_cfg=init)
    write_config('distill_xvit_s_in1k_200e', teacher=teacher, teacher_channels=512)
    assert "has no weight of it: if it is of a whole model, add prefix='backbone.'" in fail(*argv, capsys=capsys)
    vectors = save_teachers()['vit']
    vectors['teacher']['out_type'] = 'avg_featmap'
    write_config('distill_xvit_s_in1k_200e', **vectors)
    assert 'gives a tensor of shape (8, 192) where a map (B, 192, h, w) is expected' in fail(*argv, capsys=capsys)
    write_config('distill_xvit_s_in1k_200e', **(save_teachers()['xcit'] | dict(teacher_channels=64)))
    assert 'where a map (B, 64, h, w) is expected' in fail(*argv, capsys=capsys)
    write_config('distill_xvit_s_in1k_200e', **save_teachers()['two_maps'])
    assert 'backbone has 1 outputs, teacher_channels=[128, 256] has 2' in fail(*argv, capsys=capsys)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of five images, one of them in a folder of its own, and a text."""
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / 'photos' / 'holidays'
    inside.mkdir(parents=True)
    for i in range(5):
        Image.new('RGB', (40, 40), (50 * i, 99, 0)).save((inside if i else inside.parent) / f'{i}.JPG')
    (inside / 'notes.txt').write_text('not an image')
    return inside.parent


def fail(*argv: str, capsys) -> str:
    with pytest.raises(SystemExit):
        train([*argv])
    return capsys.readouterr().err


def test_any_folder_of_images(folder, capsys):
    options = [*QUICK, 'model.backbone.arch=tiny', 'model.neck.in_channels=192']
    argv = ['mocov2_xvit_s_in1k_200e', '--data-root', 'photos', '--cfg-options', *options]
    assert 'missing photos/train (images)' in fail(*argv, capsys=capsys)
    argv.append('train_dataloader.dataset.data_prefix=.')
    train(argv)
    assert (folder.parent / 'work_dirs' / 'mocov2_xvit_s_in1k_200e' / 'epoch_1.pth').is_file()
    shutil.rmtree(folder / 'holidays')
    assert 'photos and the folders in it hold 1 images' in fail(*argv, capsys=capsys)


def test_a_queue_that_holds_no_whole_batches(folder, capsys):
    argv = ['--data-root', 'photos', '--cfg-options', *QUICK, 'train_dataloader.batch_size=5']
    assert 'queue_len=16 is not a multiple of the batch size 5' in fail(
        'densecl_xvit_s_in1k_200e', *argv, capsys=capsys
    )

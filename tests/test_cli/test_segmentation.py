"""Training and testing segmentors by the commands: on drawn label maps, and on photographs."""

import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train
from xvit_det.config import label_map_check
from xvit_det.config.data_check import check_data
from xvit_det.config.load import load_config

SMALL = """
model = dict(
    data_preprocessor=dict(size=(48, 48)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=32,
            depth=4,
            attn_dims=16,
            num_heads=2,
            mlp_ratio=2,
            num_class_layers=0,
            layer_scale=1.0,
        )
    ),
    neck=dict(in_channels=[32] * 4, out_channels=32),
    decode_head=dict(in_channels=[32] * 4, channels=16, num_classes=len(classes)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=(48, 48), cat_max_ratio=0.9),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(num_workers=0, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = []
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=1))
randomness = dict(seed=0)
"""


@pytest.fixture
def small_config(tmp_path: Path):
    """``small_config(classes, more='')``: the shipped example for own label maps, small, for these classes."""
    example = Path(__file__).resolve().parents[2] / 'configs' / 'segmentation' / 'semantic_fpn_xvit_s_custom.py'

    def write(classes: tuple[str, ...], more: str = '') -> str:
        path = tmp_path / 'small.py'
        data = 'metainfo = dict(classes=classes)\ntrain_dataloader["dataset"]["metainfo"] = metainfo\n'
        data += 'val_dataloader["dataset"]["metainfo"] = metainfo\n'
        path.write_text(f'_base_ = {str(example)!r}\nclasses = {classes!r}\n{SMALL}{data}{more}')
        return str(path)

    return write


THREE = ('background', 'road', 'car')


def row(screen: str, first: str) -> list[str]:
    line = next(line for line in screen.splitlines() if line.startswith(f'│ {first} '))
    return [cell.strip() for cell in line.strip('│').split('│')]


def test_segmentation_trains_resumes_and_tests(label_map_folder, small_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config, options = small_config(THREE), ['--data-root', str(label_map_folder), '--work-dir', 'work']
    train([config, *options, '--amp'])
    train(
        [config, *options, '--resume', '--cfg-options', 'train_cfg.max_iters=6', 'default_hooks.checkpoint.interval=6']
    )
    assert '4 train images, 2 val images' in capfd.readouterr().out
    outputs = ['--tta', '--out', 'maps.pkl', '--show-dir', 'drawn']
    evaluate([config, 'work/iter_6.pth', *options, *outputs, '--cfg-options', 'paper.mIoU=43.9', 'paper.source=theirs'])
    shown = capfd.readouterr()
    assert '0 missing, 0 unexpected' in shown.out and 'Warning' not in shown.err
    assert '|    car     |' in shown.out  # mmseg's own table, by class
    assert row(shown.out, 'mIoU')[2] == '43.9' and row(shown.out, 'mAcc')[2] == '–' and 'theirs' in shown.out
    predictions = pickle.loads(Path('maps.pkl').read_bytes())
    assert [p['pred_sem_seg'].shape for p in predictions] == [(48, 64)] * 2
    classes = np.stack([p['pred_sem_seg'] for p in predictions])
    labels = np.stack([np.array(Image.open(label_map_folder / 'labels' / 'val' / f'{i}.png')) for i in range(2)])
    right = (classes == labels)[labels != 255].mean()
    assert float(row(shown.out, 'aAcc')[1]) == pytest.approx(100 * right, abs=0.06)
    assert len(list(Path('drawn').iterdir())) == 2


def test_two_processes_on_cpus(label_map_folder, small_config, tool, tmp_path):
    """Where BatchNorm cannot take the statistics of all processes (``sync_bn``)."""
    config = small_config(THREE, 'train_cfg = dict(max_iters=1, val_interval=1)\n')
    done = tool('dist_train.sh', config, '2', '--data-root', str(label_map_folder), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'batch 2 x 2 on cpu' in done.stdout and 'mIoU: ' in done.stdout


def test_mmsegs_own_tools(label_map_folder, small_config, tmp_path):
    """They import mmseg before us."""
    short = 'train_cfg = dict(max_iters=1, val_interval=1)\ndefault_hooks["checkpoint"]["interval"] = 1\n'
    short += ''.join(
        f'{split}_dataloader["dataset"]["data_root"] = {str(label_map_folder)!r}\n'
        for split in ('train', 'val', 'test')
    )
    short += ''.join(f'{split}_dataloader["persistent_workers"] = False\n' for split in ('train', 'val', 'test'))
    config = small_config(THREE, short)
    for tool in (['train.py', config], ['test.py', config, 'work/iter_1.pth']):
        path = Path(mmseg.__file__).parent / '.mim' / 'tools' / tool[0]
        command = [sys.executable, str(path), *tool[1:], '--work-dir', 'work']
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert 'mIoU: ' in done.stdout + done.stderr


def test_photographs(coco_tiny, small_config, tmp_path, monkeypatch, capfd):
    """Forty photographs of COCO, whose objects are drawn into label maps: people, other objects and the rest."""
    coco = COCO(str(coco_tiny / 'annotations' / 'instances_train2017.json'))
    for i, image in enumerate(coco.loadImgs(sorted(coco.getImgIds())[:40])):
        split = 'val' if i % 4 == 0 else 'train'
        labels = np.zeros((image['height'], image['width']), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image['id'])):
            value = 255 if annotation['iscrowd'] else 1 if annotation['category_id'] == 1 else 2
            labels[coco.annToMask(annotation) == 1] = value
        for kind in ('images', 'labels'):
            (tmp_path / 'mine' / kind / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(coco_tiny / 'train2017' / image['file_name'], tmp_path / 'mine' / 'images' / split)
        name = Path(image['file_name']).with_suffix('.png')
        Image.fromarray(labels).save(tmp_path / 'mine' / 'labels' / split / name)
    monkeypatch.chdir(tmp_path)
    short = 'train_cfg = dict(max_iters=10, val_interval=10)\n'
    train([small_config(('background', 'person', 'object'), short), '--data-root', 'mine'])
    shown = capfd.readouterr().out
    assert '30 train images, 10 val images' in shown
    (miou,) = re.findall(r'mIoU: ([\d.]+)', shown)
    assert 0 < float(miou) <= 100
    losses = [float(loss) for loss in re.findall(r' loss: ([\d.]+)', shown)]
    assert len(losses) == 10 and losses[-1] < losses[0]


@pytest.fixture
def refused(label_map_folder, small_config, capfd, tmp_path, monkeypatch):
    """``refused(*options, more='')``: the sentence with which training on the drawn label maps is refused."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str, more: str = '') -> str:
        with pytest.raises(SystemExit) as stop:
            train([small_config(THREE, more), '--data-root', str(label_map_folder), *options])
        assert stop.value.code == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
        return line

    return run


def write_labels(folder: Path, values: np.ndarray, name: str = '0.png') -> None:
    Image.fromarray(values.astype(np.uint8)).save(folder / 'labels' / 'train' / name)


def test_a_missing_folder(refused, label_map_folder):
    shutil.rmtree(label_map_folder / 'labels' / 'val')
    assert 'labels/val (label maps)' in refused()


def test_an_image_without_label_map(refused, label_map_folder):
    (label_map_folder / 'labels' / 'train' / '2.png').unlink()
    message = refused()
    assert '1 of the 4 images have no label map' in message and 'images/train/2.jpg' in message


def test_an_image_that_mmseg_would_leave_out(refused, label_map_folder):
    image = label_map_folder / 'images' / 'train' / '2.jpg'
    image.rename(image.with_suffix('.jpeg'))
    message = refused()
    assert '1 of the 4 label maps' in message and "ends in '.jpg'" in message and 'labels/train/2.png' in message
    for image in (label_map_folder / 'images' / 'train').iterdir():
        image.rename(image.with_suffix('.JPG'))
    assert "no image whose name ends in '.jpg'" in refused()


def test_a_list_of_names_leaves_out_what_it_likes(label_map_folder, small_config):
    (label_map_folder / 'train.txt').write_text('0\n3\n')
    more = 'train_dataloader["dataset"]["ann_file"] = "train.txt"\n'
    cfg = load_config(small_config(THREE, more), data_root=str(label_map_folder))
    assert check_data(cfg, ('train', 'val')) == dict(train=2, val=2)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (np.full((48, 64), 3), r'has the values \[3\], but the 3 classes are 0 to 2, and 255 is ignored'),
        (np.zeros((48, 64, 3)), r'is a colour image of shape \(48, 64, 3\)'),
        (np.zeros((24, 32)), r'is \(24, 32\), but its image .*0.jpg is \(48, 64\)'),
    ],
)
def test_label_maps_that_do_not_fit(refused, label_map_folder, values, message):
    write_labels(label_map_folder, values)
    assert re.search(r'labels/train/0.png ' + message, refused())


def test_files_that_are_no_images(refused, label_map_folder):
    label_map, image = label_map_folder / 'labels' / 'train' / '0.png', label_map_folder / 'images' / 'train' / '0.jpg'
    image.write_bytes(b'half of it')
    assert f'image {image} cannot be read' in refused()
    label_map.write_bytes(b'half of it')
    assert f'label map {label_map} cannot be read' in refused()


def test_datasets_that_cannot_be_built(refused):
    ade20k = "train_dataloader['dataset']['type'] = 'ADE20KDataset'\n"
    assert 'the dataset ADE20KDataset cannot be used: new classes' in refused(more=ade20k)
    assert 'Adé is not in the mmseg::dataset registry' in refused(more="train_dataloader['dataset']['type'] = 'Adé'\n")
    assert "'img_sufix'" in refused(more="train_dataloader['dataset']['img_sufix'] = '.jpg'\n")


def test_zero_as_the_ignored_label(refused, label_map_folder):
    for i in range(4):
        write_labels(label_map_folder, np.full((48, 64), 4), f'{i}.png')
    more = 'train_dataloader["dataset"]["reduce_zero_label"] = True\n'
    assert re.search(r'has the values \[3\] \(after reduce_zero_label, which subtracts one\)', refused(more=more))


def test_objects_marked_as_ignored(label_map_folder, small_config, monkeypatch):
    for i in range(4):
        write_labels(label_map_folder, 255 * np.eye(48, 64), f'{i}.png')
    said: list[str] = []
    monkeypatch.setattr(label_map_check, 'print_log', lambda message, **_: said.append(message))
    check_data(load_config(small_config(THREE), data_root=str(label_map_folder)), ('train', 'val'))
    (message,) = said
    assert 'The 4 label maps that were looked at hold at most one class ([0])' in message


def test_number_and_names_of_classes(refused):
    message = refused('--cfg-options', 'model.decode_head.num_classes=150')
    assert 'model.decode_head.num_classes is 150, but the train dataset has 3 classes' in message
    assert 'has no class names' in refused(more='train_dataloader["dataset"]["metainfo"] = dict(_delete_=True)\n')


def test_options_that_nothing_reads(refused):
    assert 'channels' in refused('--cfg-options', 'model.decode_head.channel=8')
    assert 'img_suffix' in refused('--cfg-options', 'train_dataloader.dataset.img_sufix=.png')


def test_pretrained_of_a_stock_config(refused):
    message = refused(more="model['pretrained'] = 'open-mmlab://resnet50_v1c'\n")
    assert "model.pretrained='open-mmlab://resnet50_v1c'" in message and 'None' in message

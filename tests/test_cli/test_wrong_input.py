"""Every mistake of a user gets one sentence that names it, exit status 2, and no traceback."""

import json
from pathlib import Path

import pytest
import torch

from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train


@pytest.fixture
def refused(capfd, tmp_path, monkeypatch):
    """``refused(main, *argv)``: the sentence with which a command refuses its arguments."""
    monkeypatch.chdir(tmp_path)

    def run(main, *argv: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(list(argv))
        assert stop.value.code == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
        assert len(lines) == 1
        return lines[0]

    return run


def test_exit_status_and_stderr_of_the_tool(tool, tmp_path):
    done = tool('train.py', 'mask_rcnn_xvit_z_3x', cwd=tmp_path)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert done.stderr.count('error:') == 1 and 'mask_rcnn_xvit_s_3x' in done.stderr  # a close match


def test_no_data_says_what_is_expected(refused):
    message = refused(train, 'mask_rcnn_xvit_s_3x')
    for part in ('data/coco', 'annotations/instances_train2017.json', 'train2017', '--data-root', 'make demo'):
        assert part in message


@pytest.mark.parametrize(
    ('name', 'folder', 'files'),
    [
        ('vin_cifar10', 'cifar-10-batches-py', ['data_batch_1', 'data_batch_5', 'test_batch']),
        ('vin_tinyimagenet', 'tiny-imagenet-200', ['wnids.txt', 'words.txt', 'val/val_annotations.txt']),
    ],
)
def test_no_pictures_to_classify_says_what_is_expected(refused, tmp_path, name, folder, files):
    (tmp_path / 'elsewhere').mkdir()
    for root in ([], ['--data-root', 'elsewhere']):
        message = refused(train, name, *root)
        assert all(part in message for part in (*files, folder, '--data-root'))
    (tmp_path / 'elsewhere' / folder).mkdir()
    message = refused(train, name, '--data-root', f'elsewhere/{folder}')
    assert all(f'{folder}/{file}' in message for file in files)


def test_damaged_cifar(refused, tmp_path):
    from mmpretrain.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
        (folder / name).write_text('half of it')
    assert 'data_batch_1 is damaged' in refused(train, 'vit_cifar10', '--data-root', str(folder))


def test_config_that_is_no_config(refused, tmp_path):
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    assert 'cannot be used' in refused(train, 'broken.py')
    (tmp_path / 'part.py').write_text('optim_wrapper = dict()\n')
    assert 'describes no model' in refused(train, 'part.py')


def test_data_root_that_is_no_folder(refused, write_config, coco_folder):
    assert "'nowhere' is not a folder" in refused(train, write_config(coco_folder), '--data-root', 'nowhere')


def test_missing_annotation_file(refused, write_config, coco_folder):
    (coco_folder / 'annotations' / 'val.json').unlink()
    message = refused(train, write_config(coco_folder))
    assert message.count('val.json') == 1 and 'train.json' not in message


def test_missing_image(refused, write_config, coco_folder):
    (coco_folder / 'train' / '3.png').unlink()
    message = refused(train, write_config(coco_folder))
    assert '1 of the 4 images' in message and '3.png' in message


def test_class_names_that_do_not_match(refused, write_config, coco_folder):
    config = write_config(coco_folder)
    for split in ('train', 'val'):
        path = coco_folder / 'annotations' / f'{split}.json'
        content = json.loads(path.read_text())
        content['categories'][1]['name'] = 'stripe'
        path.write_text(json.dumps(content))
    message = refused(train, config)
    assert "do not include ('bar',)" in message and "classes=('square', 'stripe',)" in message


def test_class_names_in_another_order(refused, write_config, coco_folder):
    message = refused(train, write_config(coco_folder, "metainfo.update(classes=('bar', 'square'))\n"))
    assert 'order' in message


def test_one_class_without_its_comma(refused, write_config, coco_folder):
    message = refused(train, write_config(coco_folder, "metainfo.update(classes=('bar'))\n"))
    assert "write ('bar',)" in message


def test_num_classes_of_a_head(refused, write_config, coco_folder):
    option = 'model.roi_head.mask_head.num_classes=80'
    message = refused(train, write_config(coco_folder), '--cfg-options', option)
    assert 'model.roi_head.mask_head.num_classes is 80' in message and '2 classes' in message


@pytest.mark.parametrize(
    ('option', 'hint'),
    [
        ('optim_wraper.optimizer.lr=1', 'optim_wrapper'),  # at the top
        ('optim_wrapper.optimizer.learning_rate=1', 'lr'),  # no argument of AdamW
        ('model.backbone.drop_path=0.1', 'drop_path_rate'),  # no argument of XViT
        ('train_dataloader.batchsize=1', 'batch_size'),
        ('train_cfg.max_epoch=1', 'max_epochs'),
        ('model.roi_heads.bbox_head.num_classes=1', 'roi_head'),  # a parent
        ('train_dataloader.dataset.dataset.pipeline.9.type=X', 'list of 4'),
        ('data_root=elsewhere', '--data-root'),  # used up while the file was read
        ('model.type.x=1', 'no key'),
        ('work_dir', 'KEY=VALUE'),
    ],
)
def test_unknown_option(refused, write_config, coco_folder, option, hint):
    message = refused(train, write_config(coco_folder), '--cfg-options', option)
    assert hint in message


def test_unregistered_class(refused, write_config, coco_folder):
    message = refused(train, write_config(coco_folder), '--cfg-options', 'model.backbone.type=XVit')
    assert 'XVit' in message


def test_arguments_left_over_from_another_backbone(refused, write_config, coco_folder):
    config = write_config(coco_folder, "model['backbone']['depth'] = 50\n")
    message = refused(train, config)
    assert "unexpected keyword argument 'depth'" in message and '_delete_=True' in message


def test_launcher_without_its_environment(refused, write_config, coco_folder):
    assert 'dist_train.sh' in refused(train, write_config(coco_folder), '--launcher', 'pytorch')


def test_checkpoints_that_cannot_be_used(refused, write_config, coco_folder, tmp_path):
    config = write_config(coco_folder)
    assert 'does not exist' in refused(evaluate, config, 'none.pth')
    assert 'is not a file' in refused(train, config, '--resume', 'none.pth')
    Path('text.pth').write_text('no checkpoint')
    assert 'cannot be read' in refused(evaluate, config, 'text.pth')
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), 'other.pth')
    assert 'another architecture' in refused(evaluate, config, 'other.pth')
    assert 'must end in .pkl' in refused(evaluate, config, 'other.pth', '--out', 'x.json')

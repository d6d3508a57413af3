"""Every mistake of a user gets one sentence that names it, exit status 2, and no traceback."""

import json
from pathlib import Path

import pytest
import torch

from xvit_det.cli.test import main as evaluate
from xvit_det.cli.train import main as train
from xvit_det.config.load import load_config


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


def test_two_options_for_one_place(refused, write_config, coco_folder):
    options = ('--cfg-options', 'optim_wrapper.optimizer=-1', 'optim_wrapper.optimizer.lr=1')
    assert 'optimizer=-1 leaves no place for' in refused(train, write_config(coco_folder), *options)


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


@pytest.mark.parametrize(
    ('line', 'hint'),
    [
        ('train_cfgs = dict(max_epochs=3)', 'nothing reads train_cfgs; did you mean train_cfg?'),
        ('train_cfg.update(max_epochs=0)', 'train_cfg.max_epochs=0 is not a whole number of at least 1'),
        ("train_cfg = dict(type='IterBasedTrainLoop', max_iters=0)", 'train_cfg.max_iters=0'),
        ('train_dataloader.update(batch_size=0)', 'train_dataloader.batch_size=0 is not'),
        ('train_dataloader = None', 'has no train_dataloader: train_dataloader, train_cfg, optim_wrapper go together'),
        ('val_dataloader = None', 'has no val_dataloader'),
        ("model = 'MaskRCNN'", "model='MaskRCNN' is not a dict"),
        ('model = None', 'describes no model'),
        ("default_scope = 'mmdett'", "default_scope='mmdett' is no installed package"),
        ("default_scope = ''", "default_scope='' is no installed package"),
        ('val_evaluator = True', 'val_evaluator=True is neither a dict nor a list of dicts'),
        ("model['backbone'].update(type=[1, 2])", 'model.backbone.type=[1, 2] is not the name of a class'),
        ("optim_wrapper['optimizer'].update(type='')", "optim_wrapper.optimizer.type='' is not the name of a class"),
        ("log_level = 'LOUD'", "log_level='LOUD' is not one of"),
        ("resume = 'auto'", "resume='auto' is not True or False"),
        ("optim_wrapper['optimizer'].update(type='AdamX')", 'did you mean Adam or'),
        ("optim_wrapper['optimizer'].update(lr='fast')", "optim_wrapper.optimizer.lr='fast' is not a number"),
        (
            "pipeline.insert(2, dict(type='RandmFlip', prob=0.5))",
            "no transform 'RandmFlip'; did you mean RandomFlip",
        ),
        ("pipeline.insert(2, dict(type='RandomFlip', probability=0.5))", 'choices: direction, prob, swap_seg_labels'),
        ("custom_hooks = [dict(type='EMAHok')]", "custom_hooks.0: there is no hook 'EMAHok'; did you mean EMAHook?"),
        (
            "val_evaluator.update(metric='boxes')",
            "KeyError: \"metric should be one of 'bbox'",
        ),
        ("param_scheduler = [dict(type='StepLR')]", 'missing 1 required positional argument'),
        ('x = undefined', "line 42, cannot be used: NameError: name 'undefined' is not defined"),
        ('x = (1,', "line 42, cannot be used: SyntaxError: '(' was never closed"),
    ],
)
def test_mistakes_in_a_config(refused, write_config, coco_folder, line, hint):
    config = write_config(coco_folder, f'\n{line}\n')
    message = refused(train, config)
    assert hint in message and config in message


def test_a_mistake_in_a_base_names_the_base(refused, tmp_path):
    (tmp_path / 'base.py').write_text('\nx = undefined\n')
    (tmp_path / 'child.py').write_text("_base_ = 'base.py'\n")
    assert f'{tmp_path}/base.py, line 2, cannot be used: NameError' in refused(train, 'child.py')
    (tmp_path / 'base.py').write_text('\n\nx = (\n')
    assert f'{tmp_path}/base.py, line 3, cannot be used: SyntaxError' in refused(train, 'child.py')


def test_names_of_the_users_own_stay(write_config, coco_folder):
    more = "test_pipeline = train_pipeline = []\nmodel_width = 3\nschedule = 'long'\n"
    assert load_config(write_config(coco_folder, more)).schedule == 'long'


def test_tuples_among_the_options(refused, write_config, coco_folder):
    scale = 'train_dataloader.dataset.dataset.pipeline.1.scale'
    config = write_config(coco_folder)
    assert 'KEY="(a,b)"' in refused(train, config, '--cfg-options', f'{scale}=(128,96')
    for value in ('[128,96]', '128,96', '(128,96)'):
        cfg = load_config(config, options=[f'{scale}={value}'])
        assert cfg.train_dataloader.dataset.dataset.pipeline[1].scale == (128, 96)


def test_what_fails_in_the_run_is_a_sentence_and_a_file(write_config, coco_folder, tmp_path, monkeypatch, capfd):
    """Of a value that only the first batch meets, in this process and in one that loads data."""
    monkeypatch.chdir(tmp_path)
    scale = 'train_dataloader.dataset.dataset.pipeline.1.scale=wide'
    for workers in (0, 1):
        options = ['--cfg-options', scale, f'train_dataloader.num_workers={workers}']
        with pytest.raises(SystemExit) as stop:
            train([write_config(coco_folder), '--work-dir', 'work', *options])
        assert stop.value.code == 1
        errors = capfd.readouterr().err
        (line,) = (line for line in errors.splitlines() if 'error: ' in line)
        assert 'failed: TypeError: Scale must be a number or tuple of int' in line and 'geometric.py, line' in line
        assert 'Traceback' not in errors
        assert 'geometric.py' in Path('work/traceback.txt').read_text()

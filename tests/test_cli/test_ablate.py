"""``xvit-det ablate``: against ``xvit-det test`` on models with zeroed weights, on part of the images, and refusals."""

import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn

import xvit_det
from xvit_det.analysis.branches import find_branches
from xvit_det.cli.ablate import main as ablate
from xvit_det.cli.runner import evaluate
from xvit_det.config.load import load_config

# Two drawn scenes.
SCENES = ('test_dataloader.dataset.num_train=1', 'test_dataloader.dataset.num_val=2')


def save(config: str, path: str, zeroed: tuple[str, ...] = (), noise: float = 0.2) -> str:
    """Save a model of which everything matters: with random norms and affines, except for the affines that are zero."""
    torch.manual_seed(0)
    model = xvit_det.create_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.rand_like(parameter))
        for name in zeroed:
            for parameter in find_branches(model)[name].adds.parameters():
                nn.init.zeros_(parameter)
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def scenes(tmp_path, monkeypatch) -> str:
    """Folder for drawn scenes, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path('scenes').mkdir()
    return 'scenes'


def run(capfd, *argv: str) -> tuple[dict, str]:
    """The record and the screen of the command."""
    ablate([*argv, '--work-dir', 'work'])
    (file,) = Path('work').glob('ablate_*.json')
    return json.loads(file.read_text()), capfd.readouterr().out


def metrics_of(config: str, checkpoint: str, root: str, *options: str) -> dict[str, float]:
    """What ``xvit-det test`` finds."""
    return evaluate(load_config(config, data_root=root, options=options, work_dir='test'), checkpoint)


def test_a_segmentor_scores_as_with_zeroed_weights(scenes, capfd):
    config = 'semantic_fpn_xvit_shapes'
    argv = [config, save(config, 'model.pth'), '--data-root', scenes, '--cfg-options', *SCENES]
    record, screen = run(capfd, *argv, '--by', 'zero')
    depth = 6
    assert [*record['branches']] == [f'blocks.{i}.{kind}' for i in range(depth) for kind in ('mixer', 'local', 'mlp')]
    assert record['metrics'] == metrics_of(config, 'model.pth', scenes, *SCENES) and record['metrics']['mIoU'] > 0
    for name in ('blocks.1.local', 'blocks.3.mlp'):
        expected = metrics_of(config, save(config, 'zeroed.pth', (name,)), scenes, *SCENES)
        assert record['branches'][name]['metrics'] == expected != record['metrics']
    every = tuple(f'blocks.{i}.mixer' for i in range(depth))
    expected = metrics_of(config, save(config, 'zeroed.pth', every), scenes, *SCENES)
    assert record['kinds']['mixer']['metrics'] == expected != record['metrics']
    assert f'mIoU {record["scores"]["mIoU"]:.1f}' in screen and '22/22  every mlp' in screen
    assert 'mmengine - INFO - Epoch(test)' not in screen
    assert any('blocks.5' in line and line.count('│') == 5 for line in screen.splitlines())
    assert any('all' in line and line.count('│') == 5 for line in screen.splitlines())
    assert cv2.imread('work/ablate_zero.png').std() > 10


@pytest.mark.parametrize('by', ['mean', 'zero'])
def test_attention_that_adds_nothing_is_worth_nothing(by, scenes, capfd):
    config, broken = 'semantic_fpn_xvit_shapes', tuple(f'blocks.{i}.mixer' for i in range(6))
    save(config, 'model.pth', broken)
    record, screen = run(
        capfd, config, 'model.pth', '--by', by, '--images', '1', '--data-root', scenes, '--cfg-options', *SCENES
    )
    assert record['images'] == 1
    for name in broken:
        assert record['branches'][name]['share'] == record['branches'][name]['varying_share'] == 0
        assert record['branches'][name]['metrics'] == record['metrics']
    assert record['kinds']['mixer']['metrics'] == record['metrics'] != record['kinds']['mlp']['metrics']
    assert screen.count('(+0.0)') >= 7


def test_a_classifier(cifar_config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    record, screen = run(capfd, cifar_config, save(cifar_config, 'model.pth'), '--data-root', 'cifar')
    assert record['mixers'] == ['XNormAttention'] and [*record['scores']] == ['top-1']
    assert record['metrics'] == metrics_of(cifar_config, 'model.pth', 'cifar')
    assert 'class_blocks.0.mlp' in record['branches'] and 'class_blocks.0.local' not in record['branches']
    assert all(0 < b['varying_share'] <= b['share'] for b in record['branches'].values())
    assert 'top-1 (change), a branch replaced by its mean' in screen
    assert cv2.imread('work/ablate_mean.png').std() > 10


@MODELS.register_module()
class Oracle(BaseModel):
    """Detects just what is annotated, or nothing where the first block's attention adds nothing."""

    def __init__(self, backbone: dict, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.streams: list[torch.Tensor] = []  # before and after the first block's attention
        for norm in (self.backbone.blocks[0].norm1, self.backbone.blocks[0].norm2):
            norm.register_forward_pre_hook(lambda norm, args: self.streams.append(args[0].clone()))

    def forward(self, inputs, data_samples, mode):
        self.streams.clear()
        self.backbone(inputs)
        for sample in data_samples:
            truth, scale = sample.gt_instances, inputs.new_tensor(sample.scale_factor).repeat(2)
            number = 0 if torch.equal(*self.streams) else len(truth)
            boxes = truth.bboxes[:number] / scale
            sample.pred_instances = InstanceData(bboxes=boxes, labels=truth.labels[:number], scores=torch.ones(number))
        return data_samples


@pytest.fixture
def oracle(write_config, coco_folder, tmp_path, monkeypatch) -> list[str]:
    """Arguments for a detector that is always right, on two images."""
    monkeypatch.chdir(tmp_path)
    backbone = "{**model['backbone'], '_delete_': False}"
    config = write_config(
        coco_folder,
        f"model = dict(_delete_=True, type='Oracle', backbone={backbone}, "
        "data_preprocessor=dict(type='DetDataPreprocessor', mean=[0] * 3, std=[255] * 3))\n"
        "model['backbone'].pop('_delete_')\n"
        "val_evaluator['metric'] = 'bbox'\n",
    )
    return [config, save(config, 'model.pth')]


def test_images_that_are_left_out_are_not_counted_as_missed(oracle, capfd):
    for options, images in (((), 2), (('--images', '1'), 1), (('--images', '5'), 2)):
        record, _ = run(capfd, *oracle, *options)
        assert record['images'] == images and record['scores'] == {'box AP': 100}


def test_a_detector_that_finds_nothing_any_more_scores_zero(oracle, capfd):
    record, screen = run(capfd, *oracle, '--by', 'zero')
    blind = record['branches']['blocks.0.mixer']
    assert blind['scores'] == {'box AP': 0} and blind['metrics'] == {}
    assert record['branches']['blocks.1.mixer']['scores'] == {'box AP': 100}
    assert any('blocks.0' in line and '0.0 (-100.0)' in line for line in screen.splitlines())


def test_a_detector_of_scenes(scenes, capfd):
    config = 'mask_rcnn_xvit_shapes'
    save(config, 'model.pth', noise=0)
    record, screen = run(capfd, config, 'model.pth', '--data-root', scenes, '--images', '1', '--cfg-options', *SCENES)
    assert [*record['scores']] == ['box AP', 'mask AP'] and len(record['branches']) == 12
    assert 'mask AP (change), a branch replaced by its mean' in screen


@pytest.fixture
def refused(capfd, tmp_path, monkeypatch):
    """``refused(*argv)``: the sentence with which the command refuses its arguments."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str) -> str:
        with pytest.raises(SystemExit) as stop:
            ablate(list(argv))
        assert stop.value.code == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if 'error: ' in line]
        return line

    return run


def test_options_are_refused(refused):
    assert '--images must be at least 1, not 0' in refused('vin_cifar10', 'x.pth', '--images', '0')
    assert "invalid choice: 'median'" in refused('vin_cifar10', 'x.pth', '--by', 'median')
    assert 'mask_rcnn_xvit_s_3x' in refused('mask_rcnn_xvit_z_3x', 'x.pth')


def test_missing_data_and_checkpoints_are_refused(refused, oracle, write_config, coco_folder):
    config, checkpoint = oracle
    assert 'val.json' in refused(write_config('nowhere', name='elsewhere'), checkpoint)
    assert 'nothing.pth' in refused(config, 'nothing.pth')
    other = write_config(coco_folder, name='other')
    assert 'is of another architecture than the config' in refused(other, checkpoint)
    no_test = write_config(coco_folder, 'test_dataloader = test_evaluator = test_cfg = None\n', name='no_test')
    assert 'no_test.py has no test_dataloader' in refused(no_test, checkpoint)


def test_models_without_a_backbone_of_ours_are_refused(refused, write_config, coco_folder):
    resnet = "model['backbone'] = dict(init_cfg=None)\nmodel['neck'] = dict(out_channels=16)\n"
    config = write_config(coco_folder, resnet, name='resnet')
    torch.save(xvit_det.create_model(config).state_dict(), 'resnet.pth')
    assert 'MaskRCNN has no backbone of xvit_det' in refused(config, 'resnet.pth')


def test_joined_test_sets_have_no_subset(refused, oracle):
    config, checkpoint = oracle
    with Path(config).open('a') as file:
        file.write("part = test_dataloader['dataset']\n")
        file.write("test_dataloader['dataset'] = dict(type='ConcatDataset', datasets=[part, part])\n")
    assert 'a ConcatDataset has no subsets' in refused(config, checkpoint, '--images', '1')


def test_a_model_that_finds_nothing_is_refused(refused, oracle):
    config, _ = oracle
    checkpoint = save(config, 'blind.pth', ('blocks.0.mixer',))
    assert 'blind.pth has no score on these images (it found nothing)' in refused(config, checkpoint)

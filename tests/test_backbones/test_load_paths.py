"""Weights of another image size: whichever way they are loaded, tables are resampled, and other misfits reported."""

import logging

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn
from torch.nn.functional import interpolate

import xvit_det
from xvit_det import InputError, ViX
from xvit_det.backbones import pretrained
from xvit_det.cli.runner import ScreenRunner
from xvit_det.config.weights_check import check_checkpoint

ARCH = dict(embed_dims=(16,), depths=(4,), num_heads=(2,), head_dims=8, hidden_dims=(32,), pyramid_indices=(0, 1, 2, 3))
SIZE, OTHER = 64, 96
GRID, OTHER_GRID = (4, 4), (6, 6)
TABLE, PROJECTION = 'backbone.entries.0.pos_embed.table', 'backbone.blocks.2.mixer.projection'


@MODELS.register_module()
class SmallClassifier(BaseModel):
    """A backbone and a head, as a Runner takes them."""

    def __init__(self, img_size: int, projected: int = 4) -> None:
        super().__init__()
        mixer = dict(type='linformer', projected=projected)
        self.backbone = ViX(arch=dict(ARCH, init_std=0.5), mixer=mixer, img_size=img_size, out_type='cls_token')
        self.head = nn.Linear(16, 2)

    def forward(self, inputs: Tensor, mode: str = 'tensor'):
        scores = self.head(self.backbone(inputs)[0])
        return dict(loss=scores.square().mean()) if mode == 'loss' else scores


def runner(folder, img_size: int, **options) -> Runner:
    return ScreenRunner(
        model=dict(type='SmallClassifier', img_size=img_size),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=[dict(inputs=torch.ones(3, img_size, img_size))] * 2,
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2 if options.get('resume') else 1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        experiment_name=f'{folder.name}-{img_size}-{sorted(options)}',
        default_scope='mmengine',
        **options,
    )


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> str:
    """A file as a Runner writes it, after one epoch at the first size."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('trained')
    runner(folder, SIZE).train()
    return str(folder / 'epoch_1.pth')


def load_with_torch(path, folder):
    model = SmallClassifier(OTHER)
    model.load_state_dict(torch.load(path, weights_only=False)['state_dict'])
    return model


def load_wrapped(path, folder):
    model = SmallClassifier(OTHER)
    weights = torch.load(path, weights_only=False)['state_dict']
    nn.DataParallel(model).load_state_dict({f'module.{name}': weight for name, weight in weights.items()})
    return model


def load_with_mmengine(path, folder):
    model = SmallClassifier(OTHER)
    load_checkpoint(model, path)
    return model


def load_from(path, folder):
    run = runner(folder, OTHER, load_from=path)
    run.load_or_resume()
    return run.model


def resume(path, folder):
    run = runner(folder, OTHER, load_from=path, resume=True)
    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run._train_loop = run.build_train_loop(run._train_loop)
    run.load_or_resume()
    return run.model


def load_report(path, folder):
    model = SmallClassifier(OTHER)
    assert not pretrained.load_pretrained(model, path)['missing']
    return model


def init_cfg(path, folder):
    model = SmallClassifier(OTHER)
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    model.init_weights()
    model.head.load_state_dict({'weight': torch.load(path)['state_dict']['head.weight'], 'bias': torch.zeros(2)})
    return model


def resample(rows: Tensor) -> Tensor:
    maps = rows.reshape(*GRID, -1).permute(2, 0, 1)[None]
    return interpolate(maps, size=OTHER_GRID, mode='bicubic', align_corners=False)[0].permute(1, 2, 0).flatten(0, 1)


@pytest.mark.parametrize(
    'load', [load_with_torch, load_wrapped, load_with_mmengine, load_from, resume, load_report, init_cfg]
)
def test_tables_are_resampled_and_one_line_says_so(checkpoint, tmp_path, monkeypatch, load):
    lines = []
    monkeypatch.setattr(pretrained, 'print_log', lambda text, logger, level=logging.INFO: lines.append(text))
    before = torch.load(checkpoint, weights_only=False)['state_dict']
    after = load(checkpoint, tmp_path).state_dict()
    table, projection = before[TABLE][0], before[PROJECTION]
    torch.testing.assert_close(after[TABLE][0], torch.cat((table[:1], resample(table[1:]))))
    # Scaled by 16 / 36, so that sums over all tokens stay as large.
    torch.testing.assert_close(after[PROJECTION], torch.cat((projection[:1], 16 / 36 * resample(projection[1:]))))
    others = [name for name in before if before[name].shape == after[name].shape and name != 'head.bias']
    assert len(others) == len(before) - 6 and all(torch.equal(before[name], after[name]) for name in others)
    (line,) = [line for line in lines if 'resampled' in line]
    assert 'pos_embed.table (1, 17, 16) to (1, 37, 16)' in line
    assert all(f'blocks.{i}.mixer.projection (17, 4) to (37, 4)' in line for i in range(4))


def test_training_resumes_at_another_size(checkpoint, tmp_path):
    run = runner(tmp_path, OTHER, load_from=checkpoint, resume=True)
    run.train()
    assert run.epoch == 2
    averages = {
        name: run.optim_wrapper.optimizer.state[parameter]['step'].item()
        for name, parameter in run.model.named_parameters()
    }
    assert averages[TABLE] == averages[PROJECTION] == 1 and averages['head.weight'] == 2


def test_create_model(tmp_path):
    """A shipped classifier of 32 x 32 images, made for images of 48 x 48."""
    small = xvit_det.create_model('vil_cifar10')
    torch.save(dict(state_dict=small.state_dict()), tmp_path / 'vil.pth')
    large = xvit_det.create_model('vil_cifar10', pretrained=tmp_path / 'vil.pth', backbone=dict(img_size=48))
    before, after = small.state_dict(), large.state_dict()
    maps = before[TABLE][0, 1:].reshape(32, 32, 128).permute(2, 0, 1)[None]
    expected = interpolate(maps, size=(48, 48), mode='bicubic', align_corners=False)[0].permute(1, 2, 0).flatten(0, 1)
    torch.testing.assert_close(after[TABLE][0, 1:], expected)
    assert torch.equal(after[TABLE][0, 0], before[TABLE][0, 0])


def test_the_same_size_is_loaded_as_it_is(checkpoint, monkeypatch):
    monkeypatch.setattr(pretrained, 'print_log', lambda *args, **kwargs: pytest.fail('there is nothing to say'))
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    model = SmallClassifier(SIZE)
    model.load_state_dict(weights)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    check_checkpoint(model, checkpoint)


def test_loading_leaves_the_given_weights_alone(checkpoint):
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    SmallClassifier(OTHER).load_state_dict(weights)
    assert weights[TABLE].shape == (1, 17, 16)


def test_the_check_before_loading_takes_what_is_resampled_and_nothing_else(checkpoint):
    check_checkpoint(SmallClassifier(OTHER), checkpoint)
    with pytest.raises(InputError, match=r'4 of another shape .*projection: \(17, 4\) instead of \(37, 8\)'):
        check_checkpoint(SmallClassifier(OTHER, projected=8), checkpoint)


def test_what_cannot_be_resampled_is_refused_or_reported(checkpoint, capsys):
    model = SmallClassifier(OTHER, projected=8)
    before = model.state_dict()[PROJECTION].clone()
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    with pytest.raises(RuntimeError, match=r'size mismatch for backbone.blocks.0.mixer.projection'):
        model.load_state_dict(weights)
    with pytest.raises(InputError, match=r'projection has shape \(17, 4\), the model needs \(37, 8\)'):
        pretrained.load_pretrained(model, checkpoint)
    load_checkpoint(model, checkpoint)
    assert 'size mismatch for backbone.blocks.2.mixer.projection' in capsys.readouterr().out
    assert torch.equal(model.state_dict()[PROJECTION], before)

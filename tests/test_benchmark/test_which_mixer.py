"""The benchmark of mixers tells them apart, and sees when attention breaks."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'benchmarks'))

import mixer_tasks  # noqa: E402
import which_mixer  # noqa: E402


class Brief(mixer_tasks.LookUp):
    """The look-up task with fewer tokens and colours, learned in a few seconds."""

    steps, batch_size, every, level = 200, 32, 25, 0.95
    tokens, colours, dims, depth = 36, 3, 48, 2


@pytest.mark.parametrize('mixer', ['softmax', 'xnorm'])
def test_attention_learns_the_look_up_and_needs_its_mixers(mixer):
    torch.set_num_threads(1)
    results = which_mixer.train(Brief(Path(), Path()), which_mixer.MIXERS[mixer], seed=0)
    assert results['score'] >= 0.95 and results['steps_to_level'] == results['curve'][-1][0] <= 200
    assert results['zeroed'] < 0.65 and results['averaged'] < 0.65


def test_without_a_mixer_it_stays_at_chance():
    results = which_mixer.train(Brief(Path(), Path()), which_mixer.MIXERS['none'], seed=0)
    assert results['score'] == pytest.approx(0.5, abs=0.05) and results['steps_to_level'] is None


def test_look_up_labels_follow_from_colours_and_mark():
    task = mixer_tasks.LookUp(Path(), Path())
    words, labels = task.validation[0]
    for row, label in zip(words, labels, strict=True):
        (marked,) = (row >= task.colours).nonzero().flatten()
        assert label[marked] == mixer_tasks.IGNORED
        others = torch.arange(len(row)) != marked
        assert torch.equal(label[others] == 1, row[others] == row[marked] - task.colours)


def test_score_is_the_mean_recall_and_ignores_the_other_classes():
    class Task:
        scored = (1, 2)
        validation = [(torch.eye(3)[[0, 1, 1, 2, 0, 1]], torch.tensor([0, 1, 1, 2, 2, 2]))]

    assert which_mixer.score(nn.Identity(), Task()) == pytest.approx((1 + 1 / 3) / 2, abs=1e-4)


@pytest.mark.parametrize('mixer', which_mixer.MIXERS)
@pytest.mark.parametrize('task', [mixer_tasks.CifarViX, mixer_tasks.CifarXViT, mixer_tasks.CifarXViTNoLocal])
def test_every_body_takes_every_mixer_or_says_why_not(task, mixer):
    model = task.__new__(task)
    if task is not mixer_tasks.CifarViX and mixer in ('linformer', 'mlp'):
        with pytest.raises(which_mixer.InputError, match='is not one of'):
            model.model(which_mixer.MIXERS[mixer].mixer)
    else:
        assert model.model(which_mixer.MIXERS[mixer].mixer)(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_without_local_interaction_and_mixer_tokens_do_not_meet():
    """The control of the X-ViT body: what is left between tokens is the stem's neighbourhood."""
    model = mixer_tasks.CifarXViTNoLocal.__new__(mixer_tasks.CifarXViTNoLocal).model(dict(type='identity')).eval()
    backbone = model.backbone
    backbone.out_type = 'featmap'
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    backbone(images)[-1][..., 0, 0].sum().backward()
    assert images.grad[..., :16, :16].abs().sum() > 0
    assert images.grad[..., 32:, :].abs().sum() == 0 and images.grad[..., 32:].abs().sum() == 0


def test_missing_cifar_is_one_sentence(tmp_path):
    with pytest.raises(which_mixer.InputError, match='has no folder cifar-10-batches-py'):
        mixer_tasks.CifarViX(tmp_path, tmp_path)


class FewScenes(mixer_tasks.Context):
    steps, level, scenes = 150, 0.9, (160, 24)


@pytest.fixture(scope='module')
def few_scenes(tmp_path_factory):
    torch.set_num_threads(1)
    return FewScenes(Path(), tmp_path_factory.mktemp('scenes'))


def test_shapes_in_context_are_named_by_attention(few_scenes):
    """The demo's task: whoever breaks attention, or draws scenes that do not need it, sees it here."""
    results = which_mixer.train(few_scenes, which_mixer.MIXERS['xnorm'], seed=0)
    assert results['score'] > 0.85
    assert results['zeroed'] < 0.65 and results['averaged'] < 0.65


def test_shapes_in_context_cannot_be_named_without_attention(few_scenes):
    results = which_mixer.train(few_scenes, which_mixer.MIXERS['none'], seed=0)
    assert results['score'] < 0.65 and results['steps_to_level'] is None

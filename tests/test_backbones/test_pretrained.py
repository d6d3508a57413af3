"""Classification weights in a detection backbone: what loads, what is reported, what is refused."""

import logging
import pickle

import pytest
import torch
from mmengine.model import PretrainedInit

from xvit_det import InputError, XViT
from xvit_det.backbones import load_pretrained, pretrained

ARCH = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=4, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)


@pytest.fixture
def classifier(tmp_path):
    """A classifier's checkpoint as MMEngine writes it: (weights of the backbone, file)."""
    torch.manual_seed(0)
    weights = XViT(arch=ARCH, out_type='cls_token').state_dict()
    state = {f'backbone.{k}': v for k, v in weights.items()}
    state['head.fc.weight'] = torch.zeros(10, 32)
    torch.save(dict(meta=dict(epoch=3), state_dict=state), tmp_path / 'classifier.pth')
    return weights, tmp_path / 'classifier.pth'


@pytest.fixture
def log(monkeypatch):
    """What is logged: a list of (level, message)."""
    lines = []
    monkeypatch.setattr(pretrained, 'print_log', lambda text, logger, level=logging.INFO: lines.append((level, text)))
    return lines


@pytest.mark.parametrize('prefix', ['backbone.', None])
def test_classification_weights_load_with_one_line_of_config(classifier, log, prefix):
    weights, path = classifier
    cfg = dict(type='Pretrained', checkpoint=str(path), **({'prefix': prefix} if prefix else {}))
    model = XViT(arch=ARCH, init_cfg=cfg)
    model.init_weights()
    own = model.state_dict()
    shared = [k for k in own if k in weights]
    assert len(shared) > 50 and all(torch.equal(own[k], weights[k]) for k in shared)
    missing = len([k for k in own if k.startswith('pyramid.')])
    levels, texts = zip(*log, strict=True)
    assert set(levels) == {logging.INFO}
    assert f'{len(shared)} matched, {missing} missing' in texts[0]
    assert f'{missing} of the missing weights belong to pyramid' in texts[1] and 'as expected' in texts[1]
    assert 'unexpected, not used: cls_token' in texts[2]


def test_other_initialisers_come_before_pretrained_weights(classifier):
    weights, path = classifier
    cfgs = [
        dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'),
        dict(type='Constant', layer=['Linear', 'ConvTranspose2d'], val=0.25),
    ]
    model = XViT(arch=ARCH, init_cfg=cfgs)
    model.init_weights()
    assert torch.equal(model.blocks[0].mlp[0].weight, weights['blocks.0.mlp.0.weight'])
    assert (model.pyramid.levels[1][0].weight == 0.25).all()
    assert model.init_cfg == cfgs


@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: dict(model=s), lambda s: dict(state_dict=s)])
@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.', 'module.backbone.'])
def test_usual_checkpoints_are_understood(tmp_path, wrap, prefix):
    state = XViT(arch=ARCH, out_type='featmap').state_dict()
    torch.save(wrap({prefix + k: v for k, v in state.items()}), tmp_path / 'weights.pth')
    report = load_pretrained(XViT(arch=ARCH, out_type='featmap'), tmp_path / 'weights.pth')
    assert len(report['matched']) == len(state) and not report['missing'] and not report['unexpected']


def test_prefix_without_a_dot_and_type_as_a_class(classifier):
    weights, path = classifier
    model = XViT(arch=ARCH, init_cfg=dict(type=PretrainedInit, checkpoint=str(path), prefix='backbone'))
    model.init_weights()
    assert torch.equal(model.blocks[0].mlp[0].weight, weights['blocks.0.mlp.0.weight'])


def test_a_failed_load_can_be_repeated(classifier):
    weights, path = classifier
    model = XViT(arch=ARCH, init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth'))
    with pytest.raises(InputError, match='nowhere.pth does not exist'):
        model.init_weights()
    assert model.init_cfg['checkpoint'] == 'nowhere.pth'
    model.init_cfg['checkpoint'] = str(path)
    model.init_weights()
    assert torch.equal(model.blocks[0].mlp[0].weight, weights['blocks.0.mlp.0.weight'])


def test_what_is_missing_without_a_reason_is_a_warning(tmp_path, log):
    state = XViT(arch=ARCH, out_type='featmap').state_dict()
    del state['blocks.1.norm1.weight']
    torch.save(state, tmp_path / 'weights.pth')
    load_pretrained(XViT(arch=ARCH, out_type='featmap'), tmp_path / 'weights.pth')
    assert [text for level, text in log if level == logging.WARNING] == [
        'XViT: missing, trained from scratch: blocks.1.norm1.weight'
    ]


def test_nothing_matching_is_an_error(classifier, tmp_path):
    _, path = classifier
    model = XViT(arch=ARCH, init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='neck.'))
    with pytest.raises(InputError, match="no weight of XViT under the prefix 'neck.'.*backbone.stem.*stem.convs"):
        model.init_weights()
    torch.save({'layer1.weight': torch.zeros(3)}, tmp_path / 'resnet.pth')
    with pytest.raises(InputError, match='no weight of XViT'):
        load_pretrained(model, tmp_path / 'resnet.pth')


def test_another_width_is_an_error_that_changes_nothing(classifier):
    _, path = classifier
    model = XViT(arch=dict(ARCH, embed_dims=64))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError, match=r'another architecture.*backbone\.stem.*\(4, 3, 3, 3\).*\(8, 3, 3, 3\)'):
        load_pretrained(model, path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class Evil:
    def __reduce__(self):
        return print, ('code from a checkpoint ran',)


@pytest.mark.parametrize(
    'write, message',
    [
        (lambda path: None, 'does not exist'),
        (lambda path: path.write_bytes(b'not a checkpoint'), 'cannot be read as PyTorch weights'),
        (lambda path: path.write_bytes(b''), 'cannot be read as PyTorch weights'),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), 'cannot be read as PyTorch weights'),
        (lambda path: torch.save(dict(state_dict=dict(a=Evil())), path), 'cannot be read as PyTorch weights'),
        (lambda path: torch.save(dict(epoch=3), path), 'holds no weights'),
        (lambda path: torch.save([1, 2], path), 'holds no weights'),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path, capsys, write, message):
    path = tmp_path / 'bad.pth'
    write(path)
    with pytest.raises(InputError, match=message) as error:
        load_pretrained(XViT(arch=ARCH), path)
    assert 'bad.pth' in str(error.value) and '\n' not in str(error.value)
    assert capsys.readouterr().out == '', 'nothing in a checkpoint is executed'

"""A new mixer takes one file and one line: the example in CONTRIBUTING.md, as it stands there."""

import re
from pathlib import Path

import pytest
import torch

import xvit_det
from xvit_det.errors import InputError
from xvit_det.mixers import MIXERS

CONTRIBUTING = Path(__file__).resolve().parents[2] / 'CONTRIBUTING.md'
FAMILIES = {
    'ViX': 'tiny',
    'LeViX': 'levit_256',
    'CCX': dict(xvit_det.CCX.arch_zoo['cct_14'], depths=(4,), pyramid_indices=(0, 1, 2, 3)),
    'CvX': dict(xvit_det.CvX.arch_zoo['cvt_13'], depths=(1, 2, 2), pyramid_indices=(0, 2, 3, 4)),
    'PiX': dict(xvit_det.PiX.arch_zoo['small'], depths=(2, 2, 1), pyramid_indices=(0, 1, 3, 4)),
}


@pytest.fixture
def external(monkeypatch) -> type:
    """The example's class, after its file and its line have been executed."""
    code = re.findall(r'^```python\n(.*?)^```', CONTRIBUTING.read_text(), flags=re.MULTILINE | re.DOTALL)
    monkeypatch.setitem(MIXERS, 'external', None)  # removed again after the test
    scope: dict = {'__name__': 'external'}
    for block in code:
        exec(compile(block, str(CONTRIBUTING), 'exec'), scope)
    return scope['ExternalAttention']


@pytest.mark.parametrize('family', FAMILIES)
def test_every_family_takes_it(external, family):
    torch.manual_seed(0)
    mixer = dict(type='external', memory=8)
    model = getattr(xvit_det, family)(arch=FAMILIES[family], mixer=mixer, drop_path_rate=0.1).train()
    assert all(type(block.mixer) is external for block in model.blocks)
    outs = model(torch.randn(2, 3, 70, 97))
    assert model.out_strides == (4, 8, 16, 32) and len(outs) == 4
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_xvit_takes_it_plain_and_fused(external):
    torch.manual_seed(0)
    arch = dict(xvit_det.XViT.arch_zoo['tiny'], depth=4)
    model = xvit_det.XViT(arch=arch, mixer=dict(type='external', memory=8)).eval()
    assert all(type(block.attn) is external for block in model.blocks)
    x = torch.randn(1, 3, 64, 97)
    with torch.no_grad():
        plain = model(x)
        for a, b in zip(plain, model.fuse()(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_it_keeps_the_contract_of_mixers(external):
    torch.manual_seed(0)
    mixer = external(12, memory=5)
    x = torch.randn(2, 7, 12)
    scores = torch.stack([torch.stack([token @ key for key in mixer.keys.weight]) for token in x[0]]).exp()
    scores = scores / scores.sum(dim=0)
    expected = (scores / scores.sum(dim=1, keepdim=True)) @ mixer.values.weight.T
    torch.testing.assert_close(mixer(x)[0], expected)
    padded = torch.cat((x, 100 * torch.randn(2, 3, 12)), dim=1)
    valid = (torch.arange(10) < 7).expand(2, 10)
    torch.testing.assert_close(mixer(padded, valid)[:, :7], mixer(x))
    assert mixer(padded, valid).isfinite().all()


def test_its_wrong_options_are_refused_as_those_of_others(external):
    with pytest.raises(InputError, match='mixer external has no option slots; choices: memory'):
        xvit_det.ViX(arch='tiny', mixer=dict(type='external', slots=3))
    with pytest.raises(InputError, match='external memory=0 is not at least 1'):
        xvit_det.ViX(arch='tiny', mixer=dict(type='external', memory=0))
    with pytest.raises(InputError, match="mixer 'outer' is not one of softmax, .*, external"):
        xvit_det.ViX(arch='tiny', mixer='outer')

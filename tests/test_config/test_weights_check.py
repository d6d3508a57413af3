"""Telling a checkpoint of this model from one of another."""

import pytest
import torch
from torch import nn

from xvit_det import XViT
from xvit_det.config.weights_check import check_checkpoint
from xvit_det.errors import InputError


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / 'model.pth')


def test_complete_bare_and_wrapped(path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    torch.save({f'module.{name}': tensor for name, tensor in model.state_dict().items()}, path)
    wrapper = nn.Module()
    wrapper.module = model
    check_checkpoint(wrapper, path)


def test_partial_serves_fine_tuning_only(path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    torch.save(dict(state_dict={'0.weight': torch.zeros(3, 2), 'extra': torch.zeros(1)}), path)
    check_checkpoint(model, path, complete=False)
    with pytest.raises(InputError, match='1 of 4 weights matched, 3 missing, 1 unexpected'):
        check_checkpoint(model, path)


def test_another_shape(path):
    torch.save(nn.Linear(2, 4).state_dict(), path)
    with pytest.raises(InputError, match=r'weight: \(4, 2\) instead of \(3, 2\)'):
        check_checkpoint(nn.Linear(2, 3), path)
    with pytest.raises(InputError, match='0 of 2'):  # not one fits: no start for fine-tuning either
        check_checkpoint(nn.Linear(2, 3), path, complete=False)


def test_less_than_half_of_every_part_is_no_start(path):
    model = nn.ModuleDict(dict(backbone=nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), head=nn.Linear(2, 1)))
    weights = model.state_dict()
    torch.save({name: weights[name] for name in ('backbone.0.weight', 'backbone.0.bias')}, path)
    with pytest.raises(InputError, match=r'2 of 8 of backbone, 0 of 2 of head.*2 of 10 weights.*model\.init_cfg'):
        check_checkpoint(model, path, complete=False)
    for part in ('backbone', 'head'):  # as for another task, or with another backbone
        torch.save({name: weight for name, weight in weights.items() if name.startswith(part)}, path)
        check_checkpoint(model, path, complete=False)


def test_fused_weights_are_called_so(path):
    backbone = XViT(arch='tiny', out_type='featmap').eval()
    torch.save({f'backbone.{name}': weight for name, weight in backbone.fuse().state_dict().items()}, path)
    for complete in (True, False):
        with pytest.raises(InputError, match='are those of a fused XViT'):
            check_checkpoint(nn.ModuleDict(dict(backbone=XViT(arch='tiny', out_type='featmap'))), path, complete)

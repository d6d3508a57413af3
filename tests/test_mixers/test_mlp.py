"""MLP-Mixer's token mixing against dense algebra."""

import pytest
import torch
from torch.nn.functional import gelu

from xvit_det.errors import InputError
from xvit_det.mixers import MLPMixer


@pytest.mark.parametrize('expansion, hidden', [(1.0, 13), (0.5, 6), (4, 52)])
def test_equals_dense_algebra(expansion, hidden):
    torch.manual_seed(0)
    mixer = MLPMixer(6, grid=(3, 4), num_prefix=1, expansion=expansion).double()
    x = torch.randn(2, 13, 6, dtype=torch.float64)
    first, second = mixer.mlp[0], mixer.mlp[2]
    w1, w2 = first.weight[..., 0], second.weight[..., 0]
    assert w1.shape == (hidden, 13) and w2.shape == (13, hidden)
    for image, out in zip(x, mixer(x), strict=True):
        for channel in range(6):
            inner = gelu(w1 @ image[:, channel] + first.bias)
            torch.testing.assert_close(out[:, channel], w2 @ inner + second.bias)


def test_has_the_papers_number_of_parameters():
    assert sum(p.numel() for p in MLPMixer(128, grid=(32, 32)).parameters()) == 2_099_200


def test_is_bound_to_its_number_of_tokens():
    assert not MLPMixer.any_grid
    with pytest.raises(InputError, match='mlp is bound to 12 tokens, but got 20'):
        MLPMixer(6, grid=(3, 4))(torch.zeros(1, 20, 6))


def test_no_width_between_the_layers():
    with pytest.raises(InputError, match='mlp expansion=0.05 gives a hidden width of zero; use a larger one'):
        MLPMixer(6, grid=(3, 4), expansion=0.05)

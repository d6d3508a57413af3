"""GELU in place, where nobody notices."""

import torch
import torch.nn.functional as F

from xvit_det.layers.gelu import InplaceGELU


def test_overwrites_its_input_without_gradients_only():
    x = torch.randn(3, 5)
    kept = x.clone()
    with torch.no_grad():
        out = InplaceGELU()(x)
    assert out.data_ptr() == x.data_ptr()
    torch.testing.assert_close(out, F.gelu(kept))
    x = kept.clone().requires_grad_()
    InplaceGELU()(x).sum().backward()
    assert torch.equal(x.detach(), kept)
    other = kept.clone().requires_grad_()
    F.gelu(other).sum().backward()
    torch.testing.assert_close(x.grad, other.grad)

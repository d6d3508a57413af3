"""From an image to tokens: stem, class token, positions."""

import torch

from xvit_det.functional import map_to_tokens
from xvit_det.layers import Embedding, LearnedPosition, PatchEmbed


def test_class_token_first_then_positions():
    torch.manual_seed(0)
    embedding = Embedding(PatchEmbed(3, 6, 4), 4, LearnedPosition(6, (2, 3), num_prefix=1), cls_dims=6)
    image = torch.randn(2, 3, 8, 12)
    x, size = embedding(image)
    table = embedding.pos_embed.table[0]
    assert size == (2, 3) and x.shape == (2, 7, 6)
    for b in range(2):
        torch.testing.assert_close(x[b, 0], embedding.cls_token[0, 0] + table[0])
        torch.testing.assert_close(x[b, 1:], map_to_tokens(embedding.stem(image))[b] + table[1:])


def test_neither_class_token_nor_positions():
    embedding = Embedding(PatchEmbed(3, 6, 4), 4)
    image = torch.randn(2, 3, 8, 12)
    x, size = embedding(image)
    assert size == (2, 3)
    assert torch.equal(x, map_to_tokens(embedding.stem(image)))
    assert [name for name, _ in embedding.named_parameters()] == ['stem.proj.weight', 'stem.proj.bias']


def test_class_token_starts_with_its_deviation():
    torch.manual_seed(0)
    token = Embedding(PatchEmbed(3, 6, 4), 4, cls_dims=4000, cls_std=0.02).cls_token
    assert abs(token.std().item() - 0.02) < 0.001

"""DINO (arXiv 2203.03605) without data-dependent loops: mmdet's reads the sizes of its maps from tensors."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.layers.transformer.utils import coordinate_to_encoding, inverse_sigmoid
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from xvit_det.deploy.graphs.boxes import Boxes, clip, scale
from xvit_det.errors import InputError

Size = tuple[int, int]


def check_dino(detector: Any) -> None:
    """Raise an ``InputError`` for a DINO with other parts than mmdet's configs have."""
    loss = detector.bbox_head.loss_cls
    if not loss.use_sigmoid or not detector.as_two_stage:
        raise InputError('export knows DINO in two stages with scores from a sigmoid, as in its paper')
    if detector.num_feature_levels != 4:
        raise InputError(f'export knows DINO with four levels, not {detector.num_feature_levels}')


def dino_boxes(detector: Any, maps: Sequence[Tensor], sizes: Tensor, image_size: Size, factors: Tensor) -> Boxes:
    """What DINO finds: the queries' best classes, without NMS.

    Args:
        detector: mmdet's ``DINO``.
        maps: The neck's maps (B, C, h, w).
        sizes: (B, 2), height and width of each image within the batch.
        image_size: (H, W) of the batch.
        factors: (B, 2), by which boxes are multiplied.
    """
    shapes = [(x.shape[2], x.shape[3]) for x in maps]
    outside = [_outside(sizes, image_size, shape) for shape in shapes]  # of (B, h, w)
    positions = [
        detector.positional_encoding(mask).flatten(2).mT + embedding  # (B, C, h, w) -> (B, h·w, C)
        for mask, embedding in zip(outside, detector.level_embed, strict=True)
    ]
    ratios = torch.stack([_valid_ratio(mask) for mask in outside], dim=1)  # (B, L, 2) of x, y
    masked = torch.cat([mask.flatten(1) for mask in outside], dim=1)  # (B, N)
    memory = torch.cat([x.flatten(2).mT for x in maps], dim=1)  # L x (B, C, h, w) -> (B, N, C)
    memory = _encode(detector.encoder, memory, torch.cat(positions, dim=1), masked, ratios, shapes)
    references = _first_boxes(detector, memory, masked, outside)
    logits, boxes = _decode(detector, memory, masked, ratios, shapes, references)
    head = detector.bbox_head
    count = head.test_cfg.get('max_per_img', logits.shape[1])
    scores, index = logits.sigmoid().flatten(1).topk(count, dim=1)  # (B, Q·classes) -> (B, K)
    chosen = (index // head.num_classes)[..., None].expand(-1, -1, 4)
    boxes = scale(bbox_cxcywh_to_xyxy(boxes.gather(1, chosen)), sizes[:, None].to(boxes.dtype))
    boxes = scale(clip(boxes, sizes[:, None]), factors[:, None])
    image = torch.arange(scores.shape[0], device=scores.device)[:, None].expand(-1, count)
    return Boxes(image.flatten(), boxes.flatten(0, 1), scores.flatten(), (index % head.num_classes).flatten())


def _outside(sizes: Tensor, image_size: Size, shape: Size) -> Tensor:
    """(B, h, w), true where a map's position lies in the padding: the nearest pixel of the image decides."""
    rows, columns = (
        (torch.arange(small, device=sizes.device) * large // small) >= limit[:, None]
        for small, large, limit in zip(shape, image_size, sizes.unbind(1), strict=True)
    )
    return rows[:, :, None] | columns[:, None, :]


def _valid_ratio(outside: Tensor) -> Tensor:
    """(B, h, w) -> (B, 2), the share of the columns and of the rows that the image covers."""
    inside = (~outside).float()
    return torch.stack((inside[:, 0].mean(1), inside[:, :, 0].mean(1)), dim=-1)


def _grid(shape: Size, like: Tensor) -> Tensor:
    """Centres of a map's cells, x and y, in cells: (1, h·w, 2)."""
    h, w = shape
    y = (torch.arange(h, device=like.device) + 0.5)[:, None].expand(h, w)
    x = (torch.arange(w, device=like.device) + 0.5)[None].expand(h, w)
    return torch.stack((x, y), dim=-1).flatten(0, 1)[None]


def _encode(
    encoder: Any, tokens: Tensor, positions: Tensor, masked: Tensor, ratios: Tensor, shapes: Sequence[Size]
) -> Tensor:
    points = torch.cat(
        [_grid(shape, tokens) / (ratios[:, None, i] * _extent(shape, tokens)) for i, shape in enumerate(shapes)], dim=1
    )
    references = points[:, :, None] * ratios[:, None]  # (B, N, 1, 2) * (B, 1, L, 2)
    for layer in encoder.layers:
        tokens = layer.norms[0](_attend(layer.self_attn, tokens, positions, tokens, masked, references, shapes))
        tokens = layer.norms[1](layer.ffn(tokens))
    return tokens


def _first_boxes(detector: Any, memory: Tensor, masked: Tensor, outside: Sequence[Tensor]) -> Tensor:
    """The encoder's best proposals (B, Q, 4), from which the decoder starts: x, y, width and height from 0 to 1."""
    proposals = []
    for level, mask in enumerate(outside):
        inside = (~mask).float()
        extent = torch.stack((inside[:, 0].sum(1), inside[:, :, 0].sum(1)), dim=-1)[:, None]  # (B, 1, 2)
        centres = _grid((mask.shape[1], mask.shape[2]), memory) / extent
        proposals.append(torch.cat((centres, torch.full_like(centres, 0.05 * 2**level)), dim=-1))
    proposal = torch.cat(proposals, dim=1)
    dropped = masked | ~((proposal > 0.01) & (proposal < 0.99)).all(-1)
    logits = (proposal / (1 - proposal)).log().masked_fill(dropped[..., None], float('inf'))
    memory = detector.memory_trans_norm(detector.memory_trans_fc(memory.masked_fill(dropped[..., None], 0)))
    last, head = detector.decoder.num_layers, detector.bbox_head
    best = head.cls_branches[last](memory).amax(-1).topk(detector.num_queries, dim=1)[1]
    return (head.reg_branches[last](memory) + logits).gather(1, best[..., None].expand(-1, -1, 4)).sigmoid()


def _decode(
    detector: Any, memory: Tensor, masked: Tensor, ratios: Tensor, shapes: Sequence[Size], references: Tensor
) -> tuple[Tensor, Tensor]:
    """Class logits (B, Q, classes) and boxes (B, Q, 4) of the last decoder layer."""
    decoder, head = detector.decoder, detector.bbox_head
    query = detector.query_embedding.weight[None].expand(memory.shape[0], -1, -1)
    last = len(decoder.layers) - 1
    features = next(decoder.ref_point_head.parameters()).shape[1] // 4  # of each coordinate; OneDL has twice as many
    before = references
    for number, layer in enumerate(decoder.layers):
        scaled = references[:, :, None] * torch.cat((ratios, ratios), dim=-1)[:, None]  # (B, Q, L, 4)
        position = decoder.ref_point_head(coordinate_to_encoding(scaled[:, :, 0], num_feats=features))
        query = layer.norms[0](layer.self_attn(query, query, query, query_pos=position, key_pos=position))
        query = layer.norms[1](_attend(layer.cross_attn, query, position, memory, masked, scaled, shapes))
        query = layer.norms[2](layer.ffn(query))
        before = references
        references = (head.reg_branches[number](query) + inverse_sigmoid(references, eps=1e-3)).sigmoid()
    query = decoder.norm(query)
    boxes = (head.reg_branches[last](query) + inverse_sigmoid(before)).sigmoid()
    return head.cls_branches[last](query), boxes


def _attend(
    attn: Any,
    query: Tensor,
    position: Tensor,
    value: Tensor,
    masked: Tensor,
    references: Tensor,
    shapes: Sequence[Size],
) -> Tensor:
    """Deformable attention (arXiv 2010.04159, Equation 3) and its residual.

    Args:
        attn: mmcv's ``MultiScaleDeformableAttention``, for its weights.
        query, position: (B, Q, C).
        value: (B, N, C), the maps' tokens.
        masked: (B, N), true in the padding.
        references: (B, Q, L, 2 or 4), from 0 to 1 over each map.
        shapes: Of the L maps.
    """
    heads, levels, points = attn.num_heads, attn.num_levels, attn.num_points
    asked = query + position
    values = attn.value_proj(value).masked_fill(masked[..., None], 0).unflatten(2, (heads, -1))  # (B, N, H, c)
    offsets = attn.sampling_offsets(asked).unflatten(2, (heads, levels, points, 2))  # (B, Q, H, L, P, 2)
    weights = attn.attention_weights(asked).unflatten(2, (heads, levels * points)).softmax(-1)  # (B, Q, H, L·P)
    samples = []
    parts = values.split([h * w for h, w in shapes], dim=1)
    for level, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        reference = references[:, :, None, level, None]  # (B, Q, 1, 1, 2 or 4)
        if references.shape[-1] == 2:
            at = reference + offsets[:, :, :, level] / _extent(shape, query)
        else:
            at = reference[..., :2] + offsets[:, :, :, level] / points * reference[..., 2:] * 0.5
        grid = 2 * at.transpose(1, 2).flatten(0, 1) - 1  # (B, Q, H, P, 2) -> (B·H, Q, P, 2) in [-1, 1]
        x = part.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, shape)  # (B, h·w, H, c) -> (B·H, c, h, w)
        samples.append(F.grid_sample(x, grid, align_corners=False))  # (B·H, c, Q, P)
    weights = weights.transpose(1, 2).flatten(0, 1)  # (B, Q, H, L·P) -> (B·H, Q, L·P)
    out = (torch.cat(samples, dim=-1) * weights[:, None]).sum(-1)  # (B·H, c, Q)
    out = out.unflatten(0, (-1, heads)).permute(0, 3, 1, 2).flatten(2)  # -> (B, Q, H·c)
    return attn.output_proj(out) + query


def _extent(shape: Size, like: Tensor) -> Tensor:
    """(2,): width and height of a map."""
    h, w = (torch.full((), side, dtype=like.dtype, device=like.device) for side in shape)
    return torch.stack((w, h))

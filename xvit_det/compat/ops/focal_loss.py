"""Sigmoid and softmax focal loss."""

import torch
from torch import Tensor

from xvit_det.compat.ops import wide

TINY = torch.finfo(torch.float32).tiny  # C's FLT_MIN, where mmcv clips before a logarithm


def _one_hot(target: Tensor, like: Tensor) -> Tensor:
    """(N,) labels -> (N, C) bool; a label of C, the background, is no class."""
    return target[:, None] == torch.arange(like.shape[1], device=like.device)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    p = wide(input).sigmoid()
    positive = -alpha * (1 - p) ** gamma * p.clamp(min=TINY).log()
    negative = -(1 - alpha) * p**gamma * (1 - p).clamp(min=TINY).log()
    loss = torch.where(_one_hot(target, p), positive, negative)
    output.copy_(loss * weight[target][:, None] if weight.numel() else loss)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    p = wide(input).sigmoid()
    q = 1 - p
    positive = -alpha * q**gamma * (q - gamma * p * p.clamp(min=TINY).log())
    negative = -(1 - alpha) * p**gamma * (gamma * q * q.clamp(min=TINY).log() - p)
    grad = torch.where(_one_hot(target, p), positive, negative)
    grad_input.copy_(grad * weight[target][:, None] if weight.numel() else grad)


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """``softmax`` (N, C) are probabilities; ``target`` (N,) is negative where a row is ignored."""
    label = target.clamp(min=0)
    p = wide(softmax).gather(1, label[:, None])[:, 0]
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=TINY).log() * (target >= 0)
    output.copy_(loss * weight[label] if weight.numel() else loss)


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    label = target.clamp(min=0)
    softmax = wide(softmax)
    p = softmax.gather(1, label[:, None])[:, 0]
    log_p = p.clamp(min=TINY).log()
    # d loss / d logit = slope * (one-hot - softmax)
    slope = alpha * (gamma * (1 - p) ** (gamma - 1) * p * log_p - (1 - p) ** gamma) * (target >= 0)
    if weight.numel():
        slope = slope * weight[label]
    buff.copy_(slope)
    grad_input.copy_(slope[:, None] * (_one_hot(target, softmax).to(softmax) - softmax))

"""Small versions of the shipped detectors, with random weights that find something."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from xvit_det.config.load import load_config

ARCH = dict(embed_dims=32, depth=4, attn_dims=32, num_heads=4, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)
STRIDES = dict(RetinaNet=3, DINO=3)


def _small_config(name: str) -> Config:
    """A shipped detector's config with a narrow backbone, neck and head, and three classes."""
    cfg = load_config(name)
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 96)
    model = cfg.model
    model.backbone.arch = ARCH
    model.backbone.pop('drop_path_rate', None)
    levels = STRIDES.get(model.type, 4)
    model.neck.in_channels = [32] * levels
    if model.type == 'DINO':
        model.num_queries = 20
        model.test_cfg.max_per_img = 10
        for part in (model.encoder, model.decoder):
            part.num_layers = 2
            part.layer_cfg.ffn_cfg.feedforward_channels = 64
        model.bbox_head.num_classes = 3
        return cfg
    model.neck.out_channels = 32
    heads = [model.bbox_head] if 'bbox_head' in model else [model.rpn_head]
    for head in heads:
        head.update(in_channels=32, feat_channels=32)
    if 'roi_head' in model:
        roi = model.roi_head
        for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
            if name in roi:
                roi[name].out_channels = 32
        roi.bbox_head.update(in_channels=32, fc_out_channels=64, num_classes=3)
        if 'mask_head' in roi:
            roi.mask_head.update(in_channels=32, conv_out_channels=32, num_convs=1, num_classes=3)
        model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
        model.test_cfg.rcnn.update(score_thr=0.2, max_per_img=12)
    else:
        model.bbox_head.update(num_classes=3, stacked_convs=1)
        model.test_cfg.update(nms_pre=40, score_thr=0.01, max_per_img=12)
    return cfg


def _build(cfg: Config, seed: int = 0) -> Any:
    """The model in evaluation mode, with weights large enough that images differ in what is found."""
    torch.manual_seed(seed)
    model = MODELS.build({**cfg.model, '_scope_': cfg.default_scope})
    model.init_weights()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if 'head' in name and isinstance(module, nn.Conv2d | nn.Linear) and 'mask' not in name:
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return model.eval()


def _images(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Blurred noise of these heights and widths, (H, W, 3) uint8 in RGB."""
    rng = np.random.default_rng(seed)
    return [
        np.kron(rng.integers(0, 255, (-(-h // 8), -(-w // 8), 3)), np.ones((8, 8, 1)))[:h, :w].astype(np.uint8)
        for h, w in sizes
    ]


def _padded(batch: list[np.ndarray], multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of several sizes as an exported model takes them: a batch (B, H, W, 3), and sizes (B, 2)."""
    height, width = (-(-max(image.shape[i] for image in batch) // multiple) * multiple for i in (0, 1))
    stacked = np.zeros((len(batch), height, width, 3), np.uint8)
    for target, image in zip(stacked, batch, strict=True):
        target[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(stacked), torch.tensor([image.shape[:2] for image in batch])


@pytest.fixture(scope='session')
def small_detector() -> Callable[[str], Any]:
    """``small_detector(name)``: see :func:`_small_config` and :func:`_build`."""
    return lambda name: _build(_small_config(name))


@pytest.fixture(scope='session')
def save_small(tmp_path_factory) -> Callable[[str], Path]:
    """``save_small(name)``: the checkpoint of a small detector, beside it the config. Its images have up to 160 x 96
    pixels."""

    def save(name: str) -> Path:
        folder, cfg = tmp_path_factory.mktemp(name), _small_config(name)
        cfg.dump(folder / f'{name}.py')
        weights = dict(state_dict=_build(cfg).state_dict(), meta=dict(dataset_meta=dict(classes=list('abc'))))
        torch.save(weights, folder / 'checkpoint.pth')
        return folder / 'checkpoint.pth'

    return save


@pytest.fixture(scope='session')
def draw_images() -> Callable[..., list[np.ndarray]]:
    """``draw_images(*sizes)``: blurred noise of these heights and widths, (H, W, 3) uint8 in RGB."""
    return _images


@pytest.fixture(scope='session')
def pad() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """``pad(images, multiple)``: a batch (B, H, W, 3) as exported models take it, and sizes (B, 2)."""
    return _padded

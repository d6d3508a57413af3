"""Tasks on which `which_mixer.py` trains: each gives a model for a mixer, batches to train on, and batches to score."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.datasets import CIFAR10

from xvit_det.backbones import ViX, XViT
from xvit_det.datasets.shapes import ContextSpec, ensure_shapes, image_folder, label_folder
from xvit_det.errors import InputError
from xvit_det.layers.block import MixerBlock
from xvit_det.mixers import MIXERS, build_mixer

Batch = tuple[Tensor, Tensor]
IGNORED = -1


class LookUp:
    """144 tokens of six colours, one of them marked: which of the others have the marked one's colour?

    No convolution, no image: what a token needs is one other token, anywhere. One class in six is ``same``.
    """

    scored = (0, 1)
    steps, batch_size, lr, every, level, stops = 600, 32, 1e-3, 50, 0.99, True
    tokens, colours, dims, depth = 144, 6, 96, 4

    def __init__(self, data_root: Path, data: Path) -> None:
        self.validation = [self._draw(torch.Generator().manual_seed(10**6), 256)]

    def _draw(self, dice: torch.Generator, number: int) -> Batch:
        colours = torch.randint(self.colours, (number, self.tokens), generator=dice)
        marked = torch.randint(self.tokens, (number, 1), generator=dice)
        labels = (colours == colours.gather(1, marked)).long().scatter(1, marked, IGNORED)
        return colours.scatter_add(1, marked, torch.full_like(marked, self.colours)), labels

    def batches(self, seed: int) -> Iterator[Batch]:
        dice = torch.Generator().manual_seed(seed)
        while True:
            yield self._draw(dice, self.batch_size)

    def model(self, mixer: dict[str, Any]) -> nn.Module:
        return TokenClassifier(self.tokens, 2 * self.colours, self.dims, self.depth, mixer)


class TokenClassifier(nn.Module):
    """Embedding and learned positions, transformer blocks, and a class for each token: (B, N) -> (B, N, 2)."""

    def __init__(self, tokens: int, words: int, dims: int, depth: int, mixer: dict[str, Any]) -> None:
        super().__init__()
        side = int(tokens**0.5)
        self.embed = nn.Embedding(words, dims)
        self.position = nn.Parameter(torch.randn(tokens, dims) * 0.02)
        context = dict(embed_dims=dims, num_heads=4, grid=(side, side))
        self.blocks = nn.ModuleList(
            MixerBlock(build_mixer(mixer, MIXERS, **context), hidden_dims=2 * dims) for _ in range(depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(dims), nn.Linear(dims, 2))

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words) + self.position
        for block in self.blocks:
            x = block(x, size=None)
        return self.head(x)


class Context:
    """Shapes in context as a label map at stride 16: is the key at the image's other end a sun or a moon?

    The body is X-ViT's. Background, sun and moon are learned, but not scored.
    """

    scored = (3, 4)  # day, night
    steps, batch_size, lr, every, level, stops = 300, 8, 5e-4, 25, 0.95, True
    scenes = 1500, 150  # to train on, to score

    def __init__(self, data_root: Path, data: Path) -> None:
        spec = ContextSpec(*self.scenes)
        folder = ensure_shapes(data / spec.folder_name, spec)
        self.images, self.labels = _read_maps(folder, 'train')
        images, labels = _read_maps(folder, 'val')
        self.validation = list(zip(_normalize(images).split(50), labels.split(50), strict=True))

    def batches(self, seed: int) -> Iterator[Batch]:
        dice = np.random.default_rng(seed)
        while True:
            chosen = torch.from_numpy(dice.choice(len(self.images), self.batch_size, replace=False))
            flipped = [-1] if dice.random() < 0.5 else []
            yield _normalize(self.images[chosen]).flip(flipped), self.labels[chosen].flip(flipped)

    def model(self, mixer: dict[str, Any]) -> nn.Module:
        return Mapper(XViT(arch=_body(), mixer=mixer, out_type='featmap'), classes=5)


class Mapper(nn.Module):
    """A class for each token of a backbone's map: (B, 3, H, W) -> (B, h, w, classes)."""

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.LayerNorm(backbone.out_channels[-1]), nn.Linear(backbone.out_channels[-1], classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)[-1].permute(0, 2, 3, 1))  # (B, C, h, w) -> (B, h, w, C)


def _read_maps(folder: Path, split: str) -> Batch:
    """Images (n, 3, H, W) of uint8, and the commonest class of each cell (n, H/16, W/16)."""
    images, labels = [], []
    for path in sorted((folder / image_folder(split)).iterdir()):
        images.append(torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1))
        pixels = torch.from_numpy(cv2.imread(str(folder / label_folder(split) / path.name), cv2.IMREAD_GRAYSCALE))
        shares = F.avg_pool2d(F.one_hot(pixels.long(), 5).permute(2, 0, 1).float(), 16)  # (5, H, W) -> (5, h, w)
        labels.append(shares.argmax(0))
    return torch.stack(images), torch.stack(labels)


class Cifar:
    """A part of CIFAR-10, flipped and shifted, as 64 tokens; the bodies are those of subclasses."""

    scored = tuple(range(10))
    steps, batch_size, lr, every, level, stops = 1000, 40, 1e-3, 100, 0.45, False
    train_images, test_images = 10_000, 2000

    def __init__(self, data_root: Path, data: Path) -> None:
        if not (data_root / 'cifar-10-batches-py').is_dir():
            raise InputError(f'{data_root} has no folder cifar-10-batches-py; give --data-root another one')
        self.train, self.test = (CIFAR10(str(data_root), train=train) for train in (True, False))
        images = torch.from_numpy(self.train.data[: self.train_images]).permute(0, 3, 1, 2)
        self.images, self.labels = F.pad(images, [4] * 4), torch.tensor(self.train.targets[: self.train_images])
        test = _normalize(torch.from_numpy(self.test.data[: self.test_images]).permute(0, 3, 1, 2))
        targets = torch.tensor(self.test.targets[: self.test_images])
        self.validation = list(zip(test.split(250), targets.split(250), strict=True))

    def batches(self, seed: int) -> Iterator[Batch]:
        dice = np.random.default_rng(seed)
        while True:
            chosen = torch.from_numpy(dice.choice(len(self.images), self.batch_size, replace=False))
            y, x = dice.integers(0, 9, 2)
            images = self.images[chosen, :, y : y + 32, x : x + 32]
            yield _normalize(images).flip([-1] if dice.random() < 0.5 else []), self.labels[chosen]


class CifarViX(Cifar):
    """CIFAR-10 in the body of ViX's paper models, with patches of four pixels."""

    def model(self, mixer: dict[str, Any]) -> nn.Module:
        backbone = ViX(arch='paper', mixer=mixer, img_size=32, patch_size=4, position='learned', out_type='avg_featmap')
        return Classifier(backbone, upscale=1)


class CifarXViT(Cifar):
    """CIFAR-10, enlarged twice, in X-ViT's body with stride 8."""

    def model(self, mixer: dict[str, Any]) -> nn.Module:
        return Classifier(XViT(arch=_body(), mixer=mixer, patch_size=8, out_type='avg_featmap'), upscale=2)


class CifarXViTNoLocal(CifarXViT):
    """:class:`CifarXViT` without local patch interaction, so that only the mixer connects the tokens."""

    def model(self, mixer: dict[str, Any]) -> nn.Module:
        model = super().model(mixer)
        for block in model.backbone.blocks:
            block.lpi = Nothing()
        return model


class Nothing(nn.Module):
    """Adds nothing, in the place of a local patch interaction."""

    def forward(self, x: Tensor, size: tuple[int, int], valid: None = None) -> Tensor:
        return torch.zeros_like(x)


class Classifier(nn.Module):
    """A class for each image from the mean token: (B, 3, H, W) -> (B, 10)."""

    def __init__(self, backbone: nn.Module, upscale: int) -> None:
        super().__init__()
        self.backbone, self.upscale = backbone, upscale
        self.head = nn.Linear(backbone.out_channels[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(F.interpolate(images, scale_factor=self.upscale))[-1])


def _body() -> dict[str, Any]:
    """The demo's X-ViT, with attention as wide as the tokens."""
    return dict(embed_dims=128, depth=4, attn_dims=128, num_heads=4, mlp_ratio=4, num_class_layers=0, layer_scale=1.0)


def _normalize(images: Tensor) -> Tensor:
    return images.float() / 64 - 2


TASKS = {
    'look-up': LookUp,
    'context': Context,
    'cifar_vix': CifarViX,
    'cifar_xvit': CifarXViT,
    'cifar_xvit_no_local': CifarXViTNoLocal,
}

"""Photographs of a COCO folder in the form that each of MMDetection's configs asks for, small and few."""

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.datasets.base_video_dataset import BaseVideoDataset
from mmdet.registry import DATASETS
from mmengine.config import ConfigDict
from pycocotools.coco import COCO

FROM = 320  # pixels: sizes from here on are made smaller, to
SHRINK = 0.4  # of themselves, 1333x800 to 544x320,
MULTIPLE = 32  # and to a multiple of this
# Arguments of data transforms and batch augmentations that are sizes of images, in pixels.
SIZES = ('scale', 'scales', 'img_scale', 'crop_size', 'size', 'max_size', 'random_size_range', 'border')
# Transforms of packages that are not among the requirements.
OPTIONAL = {'Albu': 'albumentations', 'InstaBoost': 'instaboostfast'}
IMAGES = 8


def shrink(value: Any, is_size: bool = False) -> Any:
    """A pipeline, or any part of a config, whose images are small."""
    if isinstance(value, dict):
        return type(value)({key: shrink(item, is_size=key in SIZES) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(shrink(item, is_size) for item in value)
    if is_size and isinstance(value, int) and abs(value) >= FROM:
        return MULTIPLE * round(value * SHRINK / MULTIPLE)
    return value


class Photographs:
    """Writes annotations in other formats below ``out`` and points datasets at them.

    Args:
        root: A COCO folder.
        out: A folder for what is written.
        classes: How many classes the model knows; those of COCO are mapped to them in turn.
    """

    def __init__(self, root: Path, out: Path, classes: int) -> None:
        self.root, self.out = root, out
        self.names = tuple(f'class {i}' for i in range(min(classes, 80)))

    def dataset(self, cfg: dict, split: str) -> dict:
        """The same dataset, wrappers and pipeline included, over the photographs of a split."""
        cfg = ConfigDict(cfg)
        if 'datasets' in cfg:
            cfg.datasets = [self.dataset(part, split) for part in cfg.datasets]
        elif 'dataset' in cfg:
            cfg.dataset = self.dataset(cfg.dataset, split)
            if 'pipeline' in cfg:
                cfg.pipeline = self.pipeline(cfg.pipeline)
        else:
            cfg = self._leaf(cfg, split)
        return cfg

    def pipeline(self, steps: list) -> list:
        """Small images; no transforms of optional packages; panoptic annotations as boxes, masks and a semantic map."""
        kept = [shrink(step) for step in steps if step.type not in OPTIONAL]
        for step in kept:
            if step.type == 'LoadPanopticAnnotations':
                step.update(type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True)
        return kept

    def _leaf(self, cfg: ConfigDict, split: str) -> dict:
        text = str(cfg.pipeline)
        video = issubclass(DATASETS.get(cfg.type), BaseVideoDataset)
        images = f'{self.root}/{split}2017'
        leaf = ConfigDict(
            type='BaseVideoDataset' if video else 'CocoDataset',
            ann_file=str(self._annotations(split, video)),
            data_prefix={'img_path' if video else 'img': images},
            metainfo=dict(classes=self.names),
            pipeline=self.pipeline(cfg.pipeline),
            test_mode=cfg.get('test_mode', False),
            filter_cfg=cfg.get('filter_cfg'),
        )
        if "'with_seg': True" in text or 'LoadPanopticAnnotations' in text:
            leaf.data_prefix.seg = str(self._semantic_maps(split))
        if 'proposal_file' in cfg:
            leaf.proposal_file = str(self._proposals(split))
        return leaf

    def _annotations(self, split: str, video: bool = False) -> Path:
        path = self.out / f'{split}{"_video" * video}_{len(self.names)}.json'
        if path.exists():
            return path
        coco = COCO(str(self.root / 'annotations' / f'instances_{split}2017.json'))
        order = {category: i for i, category in enumerate(sorted(coco.cats))}
        content: dict = dict(images=[], annotations=[], videos=[])
        content['categories'] = [dict(id=i, name=name) for i, name in enumerate(self.names)]
        for number, image in enumerate(_choose(coco)):
            # A video is the same photograph twice.
            for frame in range(1 + video):
                image_id = 2 * number + frame + 1
                content['images'].append(image | dict(id=image_id, video_id=number, frame_id=frame))
                for annotation in coco.imgToAnns[image['id']]:
                    more = dict(id=len(content['annotations']) + 1, instance_id=annotation['id'], image_id=image_id)
                    more |= dict(category_id=order[annotation['category_id']] % len(self.names))
                    content['annotations'].append(annotation | more)
            content['videos'].append(dict(id=number))
        path.write_text(json.dumps(content))
        return path

    def _semantic_maps(self, split: str) -> Path:
        """The classes of objects, and one more for the rest."""
        folder = self.out / f'{split}_semantic_{len(self.names)}'
        folder.mkdir(exist_ok=True)
        coco = COCO(str(self._annotations(split)))
        for image in coco.imgs.values():
            semantic = np.full((image['height'], image['width']), len(self.names), np.uint8)
            for annotation in coco.imgToAnns[image['id']]:
                semantic[coco.annToMask(annotation) > 0] = annotation['category_id']
            cv2.imwrite(str(folder / Path(image['file_name']).with_suffix('.png')), semantic)
        return folder

    def _proposals(self, split: str) -> Path:
        """Objects moved and resized at random, in the place of a trained RPN's output."""
        path = self.out / f'{split}_proposals_{len(self.names)}.pkl'
        coco, generator, proposals = COCO(str(self._annotations(split))), np.random.default_rng(0), {}
        for image in coco.imgs.values():
            boxes = np.array([a['bbox'] for a in coco.imgToAnns[image['id']]])[:, None]  # (N, 4) -> (N, 1, 4)
            boxes[..., 2:] += boxes[..., :2]
            size = np.tile([image['width'], image['height']], 2)
            boxes = boxes + generator.normal(0, 0.03, (len(boxes), 20, 4)) * size
            boxes = boxes.reshape(-1, 4).clip(0, size).astype(np.float32)
            scores = np.linspace(0.9, 0.1, len(boxes), dtype=np.float32)
            proposals[f'{split}2017/{image["file_name"]}'] = dict(bboxes=boxes, scores=scores)
        path.write_bytes(pickle.dumps(proposals))
        return path


def _choose(coco: COCO) -> list[dict]:
    """The first images with 2 to 12 objects, none of them a crowd."""
    chosen = [
        image
        for image_id, image in sorted(coco.imgs.items())
        if 2 <= len(coco.imgToAnns[image_id]) <= 12 and not any(a['iscrowd'] for a in coco.imgToAnns[image_id])
    ]
    return chosen[:IMAGES]

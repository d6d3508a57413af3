"""Overfit Mask R-CNN with X-ViT to a few real photographs: does the path from files to mAP work?

    python benchmarks/overfit_photographs.py --data-root path/to/coco

takes photographs from a COCO folder, trains the shipped config on them at a small size without augmentation, and
evaluates on the same photographs with COCO's metrics until box and mask mAP reach the target. That a detector overfits
eight photographs shows that images, boxes, masks, losses, gradients and evaluation fit together. It says nothing about
unseen images.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools.coco import COCO

from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.config.load import load_config
from xvit_det.errors import InputError

CONFIG = 'mask_rcnn_xvit_s_3x'
BATCH_SIZE = 4
LR = 5e-4
SEED = 0
SMALL = 32**2  # pixels


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, required=True, help='a COCO folder: annotations/, train2017/')
    parser.add_argument('--images', type=int, default=8, help='number of photographs')
    parser.add_argument('--short-side', type=int, default=256, help='pixels; the long side is at most 5/3 of it')
    parser.add_argument('--epochs', type=int, default=100, help='most passes over the photographs; a multiple of 10')
    parser.add_argument('--target', type=float, default=0.8, help='stop when box and mask mAP both reach it')
    parser.add_argument('--bf16', action='store_true', help='train in bfloat16 autocast; twice as fast on some CPUs')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/overfit'))
    parser.add_argument('--json', type=Path, help='where to record the result')
    return parser.parse_args()


def choose_photographs(annotations: Path, number: int, out: Path) -> None:
    """Write an annotation file with the first photographs that have 2 to 12 objects, none of them a crowd or small.

    COCO calls objects below 32x32 pixels small: at a third of the full size, they are a few pixels.
    """
    if not annotations.is_file():
        raise InputError(f'there is no {annotations}; --data-root takes a COCO folder with annotations/ and train2017/')
    coco = COCO(str(annotations))
    chosen = []
    for image_id in sorted(coco.imgs):
        objects = coco.imgToAnns[image_id]
        if 2 <= len(objects) <= 12 and not any(o['iscrowd'] or o['area'] < SMALL for o in objects):
            chosen.append(image_id)
    if len(chosen) < number:
        raise InputError(
            f'{annotations} has {len(chosen)} photographs with 2 to 12 objects, none small or a crowd, not {number}'
        )
    chosen = chosen[:number]
    content = dict(
        images=coco.loadImgs(chosen),
        annotations=[a for i in chosen for a in coco.imgToAnns[i]],
        categories=coco.dataset['categories'],
    )
    out.write_text(json.dumps(content))


def build_config(args: argparse.Namespace, annotations: Path) -> Config:
    cfg = load_config(CONFIG, work_dir=str(args.work_dir))
    resize = dict(type='Resize', scale=(args.short_side * 5 // 3, args.short_side), keep_ratio=True)
    load, boxes = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    train = [load, boxes, resize, dict(type='PackDetInputs')]
    test = [load, resize, boxes, dict(type='PackDetInputs', meta_keys=meta)]  # boxes of the original size
    root = str(args.data_root.resolve())
    for loader, pipeline in ((cfg.train_dataloader, train), (cfg.val_dataloader, test)):
        loader.update(batch_size=BATCH_SIZE, num_workers=2)
        prefix = dict(img='train2017/')
        loader.dataset.update(data_root=root, ann_file=str(annotations), data_prefix=prefix, pipeline=pipeline)
    cfg.val_evaluator.ann_file = str(annotations)
    # The losses and heads of full training, with fewer samples per image, as it has few objects.
    cfg.model.train_cfg.rpn_proposal.update(nms_pre=500, max_per_img=200)
    cfg.model.train_cfg.rcnn.sampler.update(num=64)
    cfg.model.test_cfg.rpn.update(nms_pre=500, max_per_img=200)
    cfg.model.backbone.drop_path_rate = 0.0
    iterations = math.ceil(args.images / BATCH_SIZE) * args.epochs
    cfg.train_cfg.update(max_epochs=args.epochs, val_interval=min(10, args.epochs))
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=min(20, iterations)),
        dict(type='CosineAnnealingLR', T_max=iterations, eta_min=LR / 50, by_epoch=False),
    ]
    cfg.optim_wrapper.optimizer.lr = LR
    if args.bf16:
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    cfg.optim_wrapper.clip_grad = dict(max_norm=5.0)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1, save_last=True)
    cfg.default_hooks.logger.interval = 10
    cfg.randomness = dict(seed=SEED)
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key)
    return cfg


class UntilTarget(Hook):
    """Records both mAPs and ends the training once they reach the target."""

    def __init__(self, target: float, record: Record) -> None:
        self.target, self.record = target, record
        self.start = time.perf_counter()
        self.reached = False

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        # COCO's metric is missing as long as nothing is detected.
        box, mask = (round(float(metrics.get(f'coco/{kind}_mAP', 0)), 4) for kind in ('bbox', 'segm'))
        seconds = round(time.perf_counter() - self.start)
        self.record.add(dict(epoch=runner.epoch), seconds=seconds, box_mAP=box, mask_mAP=mask)
        self.reached = runner.train_loop.stop_training = min(box, mask) >= self.target


@command
def main() -> None:
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    annotations = args.work_dir.resolve() / 'photographs.json'
    choose_photographs(args.data_root / 'annotations' / 'instances_train2017.json', args.images, annotations)
    header = make_header('overfit_photographs', 'cuda' if torch.cuda.is_available() else 'cpu', config=CONFIG)
    header |= {key: getattr(args, key) for key in ('images', 'short_side', 'bf16', 'target')} | dict(seed=SEED)
    record = Record(header, args.json, resume=True)
    record.rows.clear()  # of a run that was cut off
    runner = Runner.from_cfg(build_config(args, annotations))
    progress = UntilTarget(args.target, record)
    runner.register_hook(progress)
    runner.train()
    show_table(f'mAP on the {args.images} photographs it was trained on', record.rows)
    if not progress.reached:
        sys.exit(1)


if __name__ == '__main__':
    main()

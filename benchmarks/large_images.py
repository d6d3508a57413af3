"""Large images with small objects: one pass, overlapping tiles, or downscaling?

    python benchmarks/large_images.py --json benchmarks/cpu/large_images.json

Trains one small detector with each of three backbones on crops of drawn mosaics, and predicts mosaics of 3200 x 4800
pixels in three ways:

* one pass: the image as it is;
* tiles: squares of 800 pixels that overlap by a fifth, merged by `predict_tiles`;
* downscaled: to 800 x 1333, as COCO's configs do.

Half of the crops are at full scale and half at a quarter of it, so that objects have a size known from training in
each of the ways. What an earlier run left in the JSON file and in the work folder is kept, so that an interrupted run
goes on.
"""

import argparse
import contextlib
import io
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from xvit_det.analysis.branches import find_branches, replace_branches
from xvit_det.benchmark.memory import peak_bytes, run_apart
from xvit_det.benchmark.models import NotPossible
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.screen import show_table
from xvit_det.cli.common import command
from xvit_det.cli.runner import build_runner
from xvit_det.config.load import load_config
from xvit_det.datasets.shapes import CLASSES
from xvit_det.inference import Prediction, Predictor, load, predict_tiles

sys.path.insert(0, str(Path(__file__).parent))

from large_plots import draw  # noqa: E402
from mosaics import FIELD, write_mosaics  # noqa: E402

WIDTH = 128
BACKBONES: dict[str, tuple[dict[str, Any], list[int]]] = {
    'X-ViT': (dict(), [WIDTH] * 4),  # the demo's
    'Swin': (
        dict(
            _delete_=True,
            type='SwinTransformer',
            embed_dims=WIDTH // 4,  # WIDTH at stride 16, where the others work
            depths=(2, 2, 2, 2),
            num_heads=(1, 2, 4, 8),
            drop_path_rate=0.0,
        ),
        [WIDTH // 4, WIDTH // 2, WIDTH, 2 * WIDTH],
    ),
    'DeiT': (  # its blocks and position table behind X-ViT's stem: patches of 16 pixels learn small shapes slowly
        dict(
            _delete_=True,
            type='ViX',
            mixer=dict(type='softmax', qkv_bias=True),
            stem='deep_conv',
            img_size=320,
            norm_eps=1e-6,
            norm_cfg=dict(type='BN', momentum=0.02),
            arch=dict(
                embed_dims=(WIDTH,),
                depths=(4,),
                num_heads=(4,),
                head_dims=WIDTH // 4,
                hidden_dims=(4 * WIDTH,),
                pyramid_indices=(0, 1, 2, 3),
                init_std=0.02,
            ),
        ),
        [WIDTH] * 4,
    ),
}
WAYS = ('one pass', 'tiles', 'downscaled')
ZEROED = 'one pass, attention zeroed'
LIMITED = 'mAP_of_best_100'
TRAIN = dict(images=120, rows=4, columns=4, seed=0)
TEST = dict(images=2, rows=10, columns=15, seed=1)
CROP = 320
TILE, OVERLAP = 800, 0.2
TILE_PROPOSALS = 200
PROPOSALS = 24 * TILE_PROPOSALS  # as many for each pixel of the mosaic
SCORE = 0.05
MAX_BOXES = 1000  # of a class; MMDetection's limit is for all classes
MEMORY_LIMIT = 14 * 2**30


def make_config(backbone: str, train: Path, work_dir: Path, steps: int, crop: int = CROP, batch: int = 4) -> Config:
    """The demo's detector without masks, for small objects, many in an image."""
    cfg = load_config('mask_rcnn_xvit_shapes', work_dir=str(work_dir))
    settings, channels = BACKBONES[backbone]
    model = cfg.model
    model.type = 'FasterRCNN'
    model.data_preprocessor.pad_mask = False
    model.backbone = {**({} if settings.get('_delete_') else model.backbone), **settings}
    model.backbone.pop('_delete_', None)
    model.neck.in_channels = channels
    model.rpn_head.anchor_generator.update(scales=[2, 3], ratios=[1.0])  # 8 to 96 pixels
    for part in ('mask_head', 'mask_roi_extractor'):
        model.roi_head.pop(part)
    model.train_cfg.rpn_proposal.update(nms_pre=500, max_per_img=200)
    model.test_cfg.rpn.update(nms_pre=PROPOSALS, max_per_img=PROPOSALS)
    model.test_cfg.rcnn.update(score_thr=SCORE, max_per_img=len(CLASSES) * MAX_BOXES)
    side = FIELD * TRAIN['rows']
    data = dict(type='CocoDataset', data_root=str(train.parent), ann_file=train.name, data_prefix=dict(img=''))
    data['metainfo'] = dict(classes=CLASSES)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='RandomChoiceResize', scales=[(side, side), (side // 4, side // 4)], keep_ratio=True),
        dict(type='RandomCrop', crop_size=(crop, crop), allow_negative_crop=True),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.train_dataloader = dict(
        batch_size=batch, num_workers=0, sampler=sampler, dataset=data | dict(pipeline=pipeline)
    )
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(1333, 800), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]
    cfg.test_dataloader.dataset = data | dict(test_mode=True, pipeline=pipeline)
    cfg.test_evaluator = dict(type='CocoMetric', ann_file=str(train), metric='bbox')
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=steps)
    warmup = min(100, steps // 2)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=warmup, end=steps, eta_min=1e-5),
    ]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=steps, save_optimizer=False)
    cfg.log_processor.by_epoch = False
    cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    cfg.randomness = dict(seed=0)
    return cfg


def train(backbone: str, data: Path, work: Path, steps: int) -> Path:
    """The checkpoint of a detector, which is trained unless it is there, and its config beside it."""
    checkpoint = work / backbone / f'iter_{steps}.pth'
    if not checkpoint.is_file():
        cfg = make_config(backbone, data, checkpoint.parent, steps)
        build_runner(cfg).train()
    return checkpoint


def load_for(way: str, checkpoint: Path) -> Predictor:
    """The detector as a way of predicting needs it."""
    predictor = load(checkpoint, full_size=way != 'downscaled')
    if way == 'tiles':
        predictor.model.rpn_head.test_cfg.max_per_img = TILE_PROPOSALS
    return predictor


def predict(predictor: Predictor, way: str, image: Path | np.ndarray) -> Prediction:
    """Predict an image in one of the ways."""
    if way == 'tiles':
        return predict_tiles(predictor, image, TILE, OVERLAP, score=SCORE)
    with contextlib.ExitStack() as stack:
        if way == ZEROED:
            mixers = [name for name in find_branches(predictor.model) if name.endswith('.mixer')]
            stack.enter_context(replace_branches(predictor.model, dict.fromkeys(mixers, 0.0)))
        return predictor.predict(image, score=SCORE)


def predict_apart(way: str, checkpoint: Path, image: Path, threads: int) -> tuple[float, Prediction]:
    """Peak memory in GiB of predicting an image in this process, beyond the model's and the libraries', and the result.

    Raises:
        NotPossible: It is more than ``MEMORY_LIMIT``.
    """
    torch.set_num_threads(threads)
    predictor, found = load_for(way, checkpoint), []
    predict(predictor, way, np.zeros((FIELD, FIELD, 3), np.uint8))  # the first call loads code
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    try:
        peak = peak_bytes(lambda: found.append(predict(predictor, way, image)))
    except (RuntimeError, MemoryError) as error:
        raise NotPossible(f'more than {MEMORY_LIMIT / 2**30:.0f} GiB: {str(error).splitlines()[0]}') from error
    return round(peak / 2**30, 2), found[0]


def measure(way: str, checkpoint: Path, truth: Path) -> tuple[dict[str, Any], list[dict]]:
    """What is found in the images of an annotation file, at which cost, and the boxes in COCO's format.

    The first image shows the memory, the others the time: the CPU's, as other work may run beside it.
    """
    images = json.loads(truth.read_text())['images']
    first, *others = [truth.parent / image['file_name'] for image in images]
    try:
        peak, prediction = run_apart(predict_apart, way, checkpoint, first, torch.get_num_threads())
    except NotPossible as error:
        return dict(not_possible=str(error)), []
    predictor, found, seconds = load_for(way, checkpoint), [prediction], []
    for file in others:
        start = time.process_time()
        found.append(predict(predictor, way, file))
        seconds.append(time.process_time() - start)
    boxes = [box for image, part in zip(images, found, strict=True) for box in part.to_coco(image['id'])]
    results = evaluate(truth, boxes) | dict(seconds=round(statistics.median(seconds), 1), peak_gib=peak)
    if way != 'tiles':  # to which the limit would apply one by one
        results[LIMITED] = evaluate(truth, best(boxes, 100))['mAP']
    return results, boxes


def best(boxes: list[dict], number: int) -> list[dict]:
    """The ``number`` boxes with the highest scores of each image, as with MMDetection's ``max_per_img=number``."""
    kept = []
    for image in {box['image_id'] for box in boxes}:
        found = [box for box in boxes if box['image_id'] == image]
        kept += sorted(found, key=lambda box: -box['score'])[:number]
    return kept


def evaluate(truth: Path, boxes: list[dict]) -> dict[str, float]:
    """COCO's mAP from IoU 0.5 to 0.95, AP at 0.5, and average recall, all of them with up to 1,000 boxes of a class.

    COCOeval's own summary gives the mAP of the 100 best boxes, which is less than there are objects.
    """
    if not boxes:
        return dict(mAP=0.0, AP50=0.0, AR=0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        coco_eval = COCOeval(coco, coco.loadRes(boxes), 'bbox')
        coco_eval.params.maxDets = [MAX_BOXES]
        coco_eval.evaluate()
        coco_eval.accumulate()
    precision = coco_eval.eval['precision'][:, :, :, 0, -1]  # (IoU, recall, class, area, maxDets) -> (T, R, K)
    recall = coco_eval.eval['recall'][:, :, 0, -1]  # (IoU, class, area, maxDets) -> (T, K)
    # -1 stands for classes without objects.
    means = dict(mAP=precision[precision > -1], AP50=precision[0][precision[0] > -1], AR=recall[recall > -1])
    return {name: round(float(values.mean()), 3) for name, values in means.items()}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--backbones', nargs='+', choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--steps', type=int, default=700, help='training steps of 4 crops (%(default)s)')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/large_images'), help='images, checkpoints')
    parser.add_argument('--json', type=Path, help='where to record the results')
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    record = Record(make_header('large_images', 'cpu', steps=args.steps, crop=CROP), args.json, resume=True)
    data = args.work_dir / 'data'
    crops, test = write_mosaics(data, **TRAIN), write_mosaics(data, **TEST)
    for backbone in args.backbones:
        checkpoint = train(backbone, crops, args.work_dir, args.steps)
        control = [ZEROED] if backbone == 'X-ViT' and 'one pass' in args.ways else []
        for way in [*args.ways, *control]:
            keys = dict(backbone=backbone, way=way)
            if not record.find(keys):
                results, boxes = measure(way, checkpoint, test)
                checkpoint.with_name(f'{way}.json').write_text(json.dumps(boxes))
                record.add(keys, **results)
                print(record.rows[-1], flush=True)
    show_table('Mosaics', record.rows)
    found = {way: args.work_dir / 'X-ViT' / f'{way}.json' for way in WAYS}
    found = {way: file for way, file in found.items() if file.is_file()}
    if args.json and found:
        draw(args.json.with_suffix('.jpg'), record.rows, test, found)


if __name__ == '__main__':
    main()

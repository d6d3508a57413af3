"""Does the real-data path learn? Overfit Mask R-CNN with X-ViT to a few real photographs.

    python benchmarks/overfit_photographs.py --data-root path/to/coco

takes photographs from a COCO folder, trains the shipped config on them at a small size without augmentation, and
evaluates on the same photographs with COCO's metrics until box and mask mAP reach the target. That a detector can learn
eight pictures by heart shows that images, boxes, masks, losses, gradients and evaluation fit together; it says nothing
about unseen pictures.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from pycocotools.coco import COCO  # noqa: E402

from xvit_det.hub import find_config  # noqa: E402

SMALL = 32**2  # pixels
METRICS = ('coco/bbox_mAP', 'coco/segm_mAP')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data-root', type=Path, required=True, help='a COCO folder: annotations/, train2017/')
    parser.add_argument('--config', default='mask_rcnn_xvit_s_3x', help='a detection config on COCO')
    parser.add_argument('--images', type=int, default=8, help='number of photographs')
    parser.add_argument('--short-side', type=int, default=256, help='pixels; the long side is at most 5/3 of it')
    parser.add_argument('--batch-size', type=int, default=4)
    parser.add_argument('--lr', type=float, default=5e-4)
    parser.add_argument(
        '--epochs', type=int, default=100, help='passes over the photographs at the most; a multiple of 10'
    )
    parser.add_argument('--target', type=float, default=0.8, help='stop when box and mask mAP both reach it')
    parser.add_argument('--bf16', action='store_true', help='train in bfloat16 autocast; twice as fast on some CPUs')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/overfit'))
    parser.add_argument('--json', type=Path, help='where to record the result')
    return parser.parse_args()


def choose_photographs(annotations: Path, number: int, out: Path) -> None:
    """Write an annotation file with the first photographs that have 2 to 12 objects, none of them a crowd or small.

    Small is COCO's own word for under 32x32 pixels: at a third of the full size, such an object is a few pixels.
    """
    if not annotations.is_file():
        sys.exit(f'there is no {annotations}; --data-root takes a COCO folder with annotations/ and train2017/')
    coco = COCO(str(annotations))
    chosen = []
    for image_id in sorted(coco.imgs):
        objects = coco.imgToAnns[image_id]
        if 2 <= len(objects) <= 12 and not any(o['iscrowd'] or o['area'] < SMALL for o in objects):
            chosen.append(image_id)
    chosen = chosen[:number]
    if len(chosen) < number:
        sys.exit(
            f'{annotations} has {len(chosen)} photographs with 2 to 12 objects, none small or a crowd, not {number}'
        )
    content = dict(
        images=coco.loadImgs(chosen),
        annotations=[a for i in chosen for a in coco.imgToAnns[i]],
        categories=coco.dataset['categories'],
    )
    out.write_text(json.dumps(content))


def build_config(args: argparse.Namespace, annotations: Path) -> Config:
    cfg = Config.fromfile(find_config(args.config))
    scale = (args.short_side * 5 // 3, args.short_side)
    load = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=scale, keep_ratio=True)]
    load.append(dict(type='LoadAnnotations', with_bbox=True, with_mask=True))
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    train = [load[0], load[2], load[1], dict(type='PackDetInputs')]
    test = [*load, dict(type='PackDetInputs', meta_keys=meta)]
    common = dict(data_root=str(args.data_root), ann_file=str(annotations), data_prefix=dict(img='train2017/'))
    cfg.train_dataloader.update(batch_size=args.batch_size, num_workers=2)
    cfg.train_dataloader.dataset.update(**common, pipeline=train)
    cfg.val_dataloader.update(batch_size=args.batch_size, num_workers=2)
    cfg.val_dataloader.dataset.update(**common, pipeline=test)
    cfg.val_evaluator.ann_file = str(annotations)
    # The same losses and heads as in full training; fewer samples per picture, as it has few objects.
    cfg.model.train_cfg.rpn_proposal.update(nms_pre=500, max_per_img=200)
    cfg.model.train_cfg.rcnn.sampler.update(num=64)
    cfg.model.test_cfg.rpn.update(nms_pre=500, max_per_img=200)
    cfg.model.backbone.drop_path_rate = 0.0
    iterations = -(-args.images // args.batch_size) * args.epochs
    cfg.train_cfg.update(max_epochs=args.epochs, val_interval=min(10, args.epochs))
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=min(20, iterations)),
        dict(type='CosineAnnealingLR', T_max=iterations, eta_min=args.lr / 50, by_epoch=False),
    ]
    cfg.optim_wrapper.optimizer.lr = args.lr
    if args.bf16:
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    cfg.optim_wrapper.clip_grad = dict(max_norm=5.0)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1, save_last=True)
    cfg.default_hooks.logger.interval = 10
    cfg.randomness = dict(seed=args.seed)
    cfg.work_dir = str(args.work_dir)
    cfg.pop('test_dataloader')
    cfg.pop('test_evaluator')
    cfg.pop('test_cfg')
    return cfg


class UntilTarget(Hook):
    """Keeps the history of both mAPs and ends the training once they reach the target."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.start = time.perf_counter()
        self.history: list[dict] = []

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        box, mask = (round(float(metrics[name]), 4) for name in METRICS)
        seconds = round(time.perf_counter() - self.start)
        self.history.append(dict(epoch=runner.epoch, seconds=seconds, box_mAP=box, mask_mAP=mask))
        if min(box, mask) >= self.target:
            runner.train_loop.stop_training = True


def main() -> int:
    args = parse_args()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    annotations = args.work_dir.resolve() / 'photographs.json'
    choose_photographs(args.data_root / 'annotations' / 'instances_train2017.json', args.images, annotations)
    args.data_root = args.data_root.resolve()
    runner = Runner.from_cfg(build_config(args, annotations))
    progress = UntilTarget(args.target)
    runner.register_hook(progress)
    runner.train()
    result = dict(
        config=args.config,
        images=args.images,
        short_side=args.short_side,
        bf16=args.bf16,
        seed=args.seed,
        target=args.target,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or 'cpu',
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        history=progress.history,
    )
    last = progress.history[-1]
    print(f'box mAP {last["box_mAP"]}, mask mAP {last["mask_mAP"]} on the {args.images} photographs it was trained on')
    print(f'after {last["epoch"]} epochs, {last["seconds"]} s')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + '\n')
    return 0 if min(last['box_mAP'], last['mask_mAP']) >= args.target else 1


if __name__ == '__main__':
    sys.exit(main())

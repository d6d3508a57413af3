"""Put X-ViT into every family of MMDetection's configs, by the rules of docs/swap.md: which of them run?

    python benchmarks/stock_mmdet.py --data-root path/to/coco

takes one config of every folder of the installed mmdet, replaces its backbone by ``XViT(arch='tiny')``, compares
strides and channels (``xvit_det.config.model_check``), and runs one training step and one prediction on photographs
of a COCO folder: the loss is finite, and every parameter of the backbone gets a gradient. Where that fails, the stock
config is tried, too. Data pipelines are mmdet's, for images of about 540x320 pixels. No weights are loaded. Each
config runs in a process of its own.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

import xvit_det  # noqa: F401
from xvit_det.benchmark.record import Record, make_header
from xvit_det.benchmark.training import drop_pretrained
from xvit_det.cli.common import command
from xvit_det.config.mistakes import parts
from xvit_det.config.model_check import check_model
from xvit_det.errors import InputError
from xvit_det.hub import mmdet_config_dir

sys.path.insert(0, str(Path(__file__).parent))

from stock_data import Photographs, shrink  # noqa: E402
from stock_swap import UNUSED, detector, swap  # noqa: E402

CONFIGS = mmdet_config_dir()
BACKBONE = dict(type='XViT', arch='tiny')
WIDTH = 192
BATCH_SIZE = 2
SEED = 0

# The configs of a folder, where it is not the shortest name with a ResNet-50: that one is not typical of the folder, a
# base without data, or fails in mmdet (Cascade RPN alone), or there are two architectures.
CHOSEN = {
    'cascade_rpn': ('cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',),
    'centernet': ('centernet_r18_8xb16-crop512-140e_coco.py', 'centernet-update_r50-caffe_fpn_ms-1x_coco.py'),
    'dcn': ('mask-rcnn_r50-dconv-c3-c5_fpn_1x_coco.py', 'faster-rcnn_r50_fpn_dpool_1x_coco.py'),
    'dcnv2': ('mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py', 'faster-rcnn_r50_fpn_mdpool_1x_coco.py'),
    'guided_anchoring': ('ga-faster-rcnn_r50_fpn_1x_coco.py', 'ga-retinanet_r50_fpn_1x_coco.py'),
    'hrnet': ('mask-rcnn_hrnetv2p-w32-1x_coco.py',),
    'lad': ('lad_r50-paa-r101_fpn_2xb8_coco_1x.py',),
    'libra_rcnn': ('libra-faster-rcnn_r50_fpn_1x_coco.py', 'libra-retinanet_r50_fpn_1x_coco.py'),
    'mask2former': ('mask2former_r50_8xb2-lsj-50e_coco.py', 'mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'),
    'nas_fpn': ('retinanet_r50_nasfpn_crop640-50e_coco.py',),
    'qdtrack': ('qdtrack_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',),
    'rtmdet': ('rtmdet_s_8xb32-300e_coco.py', 'rtmdet-ins_s_8xb32-300e_coco.py'),
    'simple_copy_paste': ('mask-rcnn_r50_fpn_rpn-2conv_4conv1fc_syncbn-all_32xb2-ssj-scp-90k_coco.py',),
    'sort': ('sort_faster-rcnn_r50_fpn_8xb2-4e_mot17halftrain_test-mot17halfval.py',),
    'strongsort': ('strongsort_yolox_x_8xb4-80e_crowdhuman-mot20train_test-mot20test.py',),
    'yolox': ('yolox_s_8xb8-300e_coco.py',),
}
# Folders without a backbone that could be replaced, or without a way to try it here.
LEFT_OUT = {
    'common': 'no models',
    'clrnet': 'lanes, not objects: needs data of its own',
    'detectors': 'the architecture is the backbone, which runs twice: DetectoRS',
    'glip': 'its text encoder, BERT, is downloaded',
    'grounding_dino': 'its text encoder, BERT, is downloaded',
    'misc': "Detectron2's models in a wrapper",
    'mm_grounding_dino': 'its text encoder, BERT, is downloaded',
    'reid': 'a classifier of persons, not a detector',
    'tridentnet': 'the architecture is the backbone, which has three branches: TridentResNet',
}


# Trackers whose detector is trained by itself; tracking needs packages that are not among the requirements.
DETECTOR_ALONE = ('bytetrack', 'deepsort', 'ocsort', 'sort', 'strongsort')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--data-root', type=Path, required=True, help='a COCO folder: annotations/, train2017/, val2017/'
    )
    parser.add_argument('--only', nargs='+', metavar='NAME', help='folders to try, again if they are recorded')
    parser.add_argument('--seconds', type=int, default=300, help='longest time for one config')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/stock_mmdet'), help='for logs and annotations')
    parser.add_argument('--json', type=Path, help='where to record the results; continued if it exists')
    return parser.parse_args()


def choose(family: str) -> list[Path]:
    """The configs of a folder that are tried."""
    if family in CHOSEN:
        return [CONFIGS / family / name for name in CHOSEN[family]]
    files = [path for path in (CONFIGS / family).glob('*.py') if not path.stem.endswith('_tta')]
    return [min(files, key=lambda path: ('r50' not in path.name, len(path.name), path.name))]


def load(path: Path) -> Config:
    """A config that runs on one CPU without a download, for small images."""
    cfg = Config.fromfile(path)
    teacher = cfg.model.get('teacher_config')
    if teacher:  # a path in a clone of mmdet
        cfg.model.teacher_config = ConfigDict(model=load(CONFIGS.parent / teacher).model)
    _prepare(cfg.model)
    for part in (cfg.model, detector(cfg.model)):
        if part.get('data_preprocessor'):
            part.data_preprocessor = shrink(part.data_preprocessor)
    return cfg


def _prepare(model: ConfigDict) -> None:
    """Drop what is downloaded, and norms that need several GPUs."""
    drop_pretrained(model)
    for _, part in parts(model, 'model'):
        if part.get('type') in ('SyncBN', 'MMSyncBN'):
            part['type'] = 'BN'


def classes(model: Any) -> int:
    """The number of classes that the heads know; RPNs say 1."""
    if isinstance(model, list | tuple):
        return max(map(classes, model), default=1)
    if not isinstance(model, dict):
        return 1
    own = [model[key] for key in ('num_classes', 'num_things_classes') if isinstance(model.get(key), int)]
    return max([1, *own, *(classes(part) for part in model.values())])


def loader(cfg: ConfigDict, batch_size: int, photographs: Photographs, split: str) -> Any:
    """The config's data loader over the photographs, in this process."""
    cfg = ConfigDict(cfg)
    cfg.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
    cfg.pop('prefetch_factor', None)
    cfg.dataset = photographs.dataset(cfg.dataset, split)
    if 'source_ratio' in cfg.sampler:  # of labelled and other images
        cfg.sampler.update(batch_size=batch_size, source_ratio=[1] * len(cfg.sampler.source_ratio))
    return Runner.build_dataloader(cfg, seed=SEED)


def without_tracker(cfg: Config) -> None:
    """Leave only the detector of a tracker, and COCO's data, in place."""
    model = cfg.model.detector
    model.data_preprocessor = dict(type='DetDataPreprocessor', pad_size_divisor=32)
    data = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'coco_detection.py')
    for key in ('train_dataloader', 'test_dataloader'):
        cfg[key] = data[key]
    cfg.model = model


def training_step(model: nn.Module, cfg: Config, photographs: Photographs, unused: str | None) -> None:
    """One step, in which every parameter of the backbone gets a gradient, but for those known to be unused."""
    data = next(iter(loader(cfg.train_dataloader, BATCH_SIZE, photographs, 'train')))
    MessageHub.get_current_instance().update_info_dict(dict(iter=0, epoch=0, max_iters=1, max_epochs=1))
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    data = model.data_preprocessor(data, True)
    loss, _ = model.parse_losses(model._run_forward(data, mode='loss'))
    if not loss.isfinite():
        raise ArithmeticError(f'the loss is {loss.item()}')
    optim_wrapper.backward(loss)
    parameters = {name: p for name, p in backbone_of(model).named_parameters() if p.requires_grad}
    without = [name for name, p in parameters.items() if p.grad is None and not (unused and name.startswith(unused))]
    if without:
        raise ArithmeticError(f'no gradient for {", ".join(without)} of the backbone')
    optim_wrapper.step()


def backbone_of(model: nn.Module) -> nn.Module:
    """Of a semi-supervised model it is the student's that learns."""
    for name in ('student', 'detector'):
        model = getattr(model, name, model)
    return model.backbone


@torch.no_grad()
def prediction(model: nn.Module, cfg: Config, photographs: Photographs) -> None:
    """What the model predicts for one image, or one frame of a video, exists and is finite."""
    data = next(iter(loader(cfg.test_dataloader, 1, photographs, 'val')))
    model.eval()  # which in distillation models returns nothing
    (result,) = model.test_step(data)
    samples = getattr(result, 'video_data_samples', [result])
    predicted = [part for sample in samples for name, part in sample.all_items() if name.startswith('pred_')]
    if not predicted:
        raise ArithmeticError('there is no prediction')
    tensors = [value for part in predicted for value in part.all_values() if isinstance(value, Tensor)]
    if not all(t.isfinite().all() for t in tensors if t.is_floating_point()):
        raise ArithmeticError('a prediction is not finite')


def try_config(path: Path, args: argparse.Namespace, ours: bool) -> dict:
    """The detector, and what was set beside backbone and channels."""
    torch.manual_seed(SEED)
    cfg = load(path)
    init_default_scope('mmdet')
    settings: dict[str, Any] = {}
    cfg.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4))
    if ours:
        settings = swap(path.parent.name, cfg.model, BACKBONE, WIDTH)
        check_model(cfg)
    kind = cfg.model.type
    if path.parent.name in DETECTOR_ALONE:
        without_tracker(cfg)
    photographs = Photographs(args.data_root.resolve(), args.work_dir.resolve(), classes(cfg.model))
    model = MODELS.build(cfg.model)
    model.init_weights()
    training_step(model, cfg, photographs, UNUSED.get(path.parent.name))
    prediction(model, cfg, photographs)
    return dict(model=kind, settings=settings)


def compare(path: Path, args: argparse.Namespace) -> dict:
    """The result with our backbone and, where it is an error, with the stock one."""
    start, log = time.perf_counter(), args.work_dir / path.stem
    result = isolated(try_config, path, args, True, log=log.with_suffix('.log'), seconds=args.seconds)
    if 'error' in result:
        stock = isolated(try_config, path, args, False, log=log.with_suffix('.stock.log'), seconds=args.seconds)
        result['stock'] = stock.get('error', 'works')
    return result | dict(seconds=round(time.perf_counter() - start))


def isolated(function: Callable[..., dict], *args: Any, log: Path, seconds: int) -> dict:
    """The function's result from a process of its own, or its ``error``."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=_report, args=(theirs, log, function, *args))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(seconds) else dict(error=f'took more than {seconds} seconds')
    except EOFError:
        process.join()
        return dict(error=f'the process ended with {process.exitcode}')
    finally:
        process.kill()
        process.join()


def _report(results: Connection, log: Path, function: Callable[..., dict], *args: Any) -> None:
    # Line by line: the parent ends this process once it has the result.
    with log.open('w', buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            results.send(function(*args))
        except Exception as error:
            traceback.print_exc()
            text = ' '.join(str(error).split())
            results.send(dict(error=f'{type(error).__name__}: {text[:300]}'))
    os._exit(0)


@command
def main() -> None:
    args = parse_args()
    families = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_')
    if unknown := set(args.only or ()) - set(families):
        raise InputError(f'--only {" ".join(sorted(unknown))}: mmdet has no such folder of configs in {CONFIGS}')
    torch.set_num_threads(1)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    record = Record(
        make_header('stock_mmdet', 'cpu', mmdet=mmdet.__version__, backbone=BACKBONE), args.json, resume=True
    )
    for family in args.only or families:
        if family in LEFT_OUT:
            record.add(dict(family=family), left_out=LEFT_OUT[family])
            continue
        for path in choose(family):
            keys = dict(family=family, config=path.name)
            if args.only or not record.find(keys):
                result = compare(path, args)
                record.add(keys, **result)
                print(f'{family:22}{path.name:60} {result.get("error", "works")}', flush=True)
    tried = [row for row in record.rows if 'left_out' not in row]
    works = [row for row in tried if 'error' not in row]
    print(f'{len(works)} of {len(tried)} work')
    sys.exit(len(works) < len(tried))


if __name__ == '__main__':
    main()

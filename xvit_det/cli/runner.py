"""mmengine's Runner with a short screen output; the log file keeps everything that OpenMMLab prints."""

import logging
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from xvit_det.backbones.pretrained import translate_for
from xvit_det.cli.endings import told_endings
from xvit_det.config.mistakes import told_building
from xvit_det.config.resume import prepare_start
from xvit_det.config.weights_check import check_checkpoint
from xvit_det.engine.checkpoints import SafeCheckpointHook, written_whole
from xvit_det.engine.divergence import StopAtDivergence
from xvit_det.engine.image_loading import GuardTraining, guard_loading
from xvit_det.engine.progress import EarlyProgress
from xvit_det.engine.seeding import SeedIterations, seed_loading
from xvit_det.engine.stopping import StopOnRequest, stay_alive
from xvit_det.engine.warmup import shorten_warmups
from xvit_det.stages import stage
from xvit_det.weights.files import find_weights, weights_key

# First words of log records that go to the file only.
FILE_ONLY = (
    '\n------------------------------------------------------------\nSystem environment',
    'Config:\n',
    'Hooks will be executed in the following order',
    'Distributed training is not used, all SyncBatchNorm',
    'paramwise_options',
    'Auto resumed from the latest checkpoint',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Exp name',
    'The prefix is not set in metric class',
    'bbox_mAP_copypaste',
    'segm_mAP_copypaste',
    '`save_param_scheduler` is True but',
)
NOTHING_FOUND = 'The testing results of the whole dataset is empty.'  # an error, for mmdet

NO_GRADIENT = 'is skipped since its requires_grad=False'  # a line for each weight of a momentum encoder


def _for_the_screen(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if message == NOTHING_FOUND:
        record.levelno, record.levelname = logging.WARNING, 'WARNING'
        record.msg = 'Nothing was found in the evaluated images, so there is no mAP; early in training that is usual.'
        return True
    return not (message.startswith(FILE_ONLY) or message.endswith(NO_GRADIENT))


class ScreenRunner(Runner):
    """mmengine's Runner with its environment dump, config dump and list of hooks in the log file only."""

    skip_broken_images = False

    def build_dataloader(self, dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """As mmengine's; images that cannot be loaded are named, or skipped in training."""
        is_train = dataloader == self._train_dataloader
        loader = super().build_dataloader(dataloader, *args, **kwargs)
        seeded = any(isinstance(hook, SeedIterations) for hook in self.hooks)
        if seeded and is_train:
            seed_loading(loader, self.seed, self.rank)
        loader.worker_init_fn = partial(stay_alive, loader.worker_init_fn)
        if is_train:
            self.register_hook(GuardTraining(loader.dataset, self.skip_broken_images))
        else:
            guard_loading(loader.dataset)
        return loader

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_for_the_screen)
        return logger

    def register_default_hooks(self, hooks: dict[str, Any] | None = None) -> None:
        """As mmengine's; its hook for checkpoints is replaced by ours."""
        hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1)) | (hooks or {})
        checkpoint = hooks['checkpoint']
        if isinstance(checkpoint, dict) and checkpoint['type'] in ('CheckpointHook', CheckpointHook):
            hooks['checkpoint'] = dict(checkpoint, type=SafeCheckpointHook)
        super().register_default_hooks(hooks)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """As mmengine's; a warm-up that is longer than the training is shortened."""
        for note in shorten_warmups(scheduler, self.max_iters):
            self.logger.warning(note)
        return super().build_param_scheduler(scheduler)

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """As mmengine's, but on a disk the file is written whole or not at all."""
        if self.rank or '://' in str(out_dir) or kwargs.get('backend_args'):
            return super().save_checkpoint(out_dir, filename, *args, **kwargs)
        with written_whole(Path(out_dir, filename)) as part:
            super().save_checkpoint(out_dir, part.name, *args, **kwargs)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """As mmengine's, without printing the path, which is in the log."""
        with redirect_stdout(StringIO()):
            return super().load_checkpoint(*args, **kwargs)

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """As mmengine's, except that the optimizer's averages of a table that was resampled start again."""
        super().resume(*args, **kwargs)
        state = self.optim_wrapper.optimizer.state
        for parameter, values in list(state.items()):
            averages = [value for value in values.values() if getattr(value, 'ndim', None) == parameter.ndim]
            if any(value.shape != parameter.shape for value in averages):
                del state[parameter]


class TranslateNames(Hook):
    """Gives the Runner the weights that :func:`check_checkpoint` has checked: of any file that it understands, with our
    names."""

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        weights, source = translate_for(runner.model, find_weights(checkpoint))
        if source or weights_key(checkpoint) != 'state_dict':
            checkpoint['state_dict'] = dict(weights)


def build_runner(cfg: Config) -> Runner:
    """mmengine's Runner for the config, which loads other projects' weights, too.

    Raises:
        InputError: The config names a class that is not registered, or gives a class an argument that it does not have.
    """
    stage('Building the model')
    with told_building(cfg):
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else ScreenRunner.from_cfg(cfg)
    runner.register_hook(StopAtDivergence())
    runner.register_hook(EarlyProgress())
    runner.register_hook(TranslateNames(), 'HIGHEST')  # before hooks that read the checkpoint, such as EMA's
    return runner


def train(cfg: Config, images: dict[str, int], weights: str | None = None, skip_broken_images: bool = False) -> None:
    """Train as the config says, after one line that says what, on what and where.

    Args:
        cfg: A config from :func:`xvit_det.config.load.load_config`.
        images: Number of images by split, as far as it is known.
        weights: Checkpoint to begin with if there is none to resume from.
        skip_broken_images: Replace training images that cannot be loaded by others.

    Raises:
        InputError: The checkpoint to start from does not fit the model, a dataset has to be downloaded and cannot, or
            an image cannot be loaded, or a file cannot be written.
        SystemExit: The training was stopped by SIGTERM (143) or Ctrl-C (130).
    """
    start = prepare_start(cfg, weights)
    if start.finished:
        if is_main_process():
            print(start.note, flush=True)
        return
    runner = build_runner(cfg)
    runner.register_hook(SeedIterations())
    runner.register_hook(StopOnRequest())
    if skip_broken_images:
        runner.skip_broken_images = True
    for warning in start.warnings:
        runner.logger.warning(warning)
    if start.note:
        runner.logger.info(start.note)
    if cfg.get('load_from'):
        check_checkpoint(runner.model, cfg.load_from, complete=bool(cfg.get('resume')))
    _announce(runner, images)
    stage('Loading the data')
    with told_endings(cfg.work_dir):
        runner.train()


def _announce(runner: Runner, images: dict[str, int]) -> None:
    parameters = sum(p.numel() for p in runner.model.parameters())
    counted = ', '.join(f'{n} {split} images' for split, n in images.items())
    batch = runner.cfg.train_dataloader.get('batch_size', '?')
    runner.logger.info(
        f'Training {Path(runner.cfg.filename).stem}: {parameters:,} parameters, {counted + ", " if counted else ""}'
        f'batch {batch} x {runner.world_size} on {get_device()}; logs and checkpoints in {runner.work_dir}'
    )


class DumpLabelMaps(DumpResults):
    """Dumps the predicted classes of each image, without the scores, which take 200 MB at 150 classes."""

    def process(self, data_batch: dict, predictions: Sequence[dict]) -> None:
        for prediction in predictions:
            label_map = prediction['pred_sem_seg']['data'].squeeze(0)  # (1, H, W) -> (H, W)
            self.results.append(
                dict(img_path=prediction['img_path'], pred_sem_seg=label_map.cpu().numpy().astype('uint8'))
            )


def build_tester(cfg: Config, checkpoint: str) -> Runner:
    """A runner whose ``test()`` evaluates a checkpoint.

    Args: as :func:`evaluate`.

    Raises:
        InputError: The checkpoint does not fit the model.
    """
    cfg.load_from, cfg.resume = checkpoint, False
    runner = build_runner(cfg)
    check_checkpoint(runner.model, checkpoint)
    return runner


def evaluate(cfg: Config, checkpoint: str, out: str | None = None) -> dict[str, float] | None:
    """Evaluate a checkpoint on the config's test data.

    Args:
        cfg: A config from :func:`xvit_det.config.load.load_config`.
        checkpoint: File or http(s) address.
        out: Pickle file to write all predictions to.

    Returns:
        The metrics, on the first process; ``None`` on the others.

    Raises:
        InputError: The checkpoint does not fit the model.
    """
    runner = build_tester(cfg, checkpoint)
    if out:
        _dump_into(runner, out)
    stage('Loading the data')
    metrics = runner.test()
    runner.logger.info(f'Evaluated {len(runner.test_dataloader.dataset):,} images.')
    return metrics if runner.rank == 0 else None


def _dump_into(runner: Runner, path: str) -> None:
    dump: type[DumpResults] = DumpResults
    if runner.cfg.get('default_scope') == 'mmseg':
        dump = DumpLabelMaps
    elif runner.cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        dump = DumpDetResults
    runner.test_evaluator.metrics.append(dump(out_file_path=path))  # last: it changes the predictions it is given

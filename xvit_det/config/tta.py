"""Test-time augmentation by flipping: predictions on an image and its mirror image are merged."""

from copy import deepcopy

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from xvit_det.config.data_paths import dataset_configs
from xvit_det.engine.tta import register_instance_tta
from xvit_det.errors import InputError

MIRROR = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]


def use_tta(cfg: Config) -> None:
    """Wrap the model and replace the test pipeline by the config's ``tta_model`` and ``tta_pipeline``.

    What the config lacks is added: the test pipeline with and without flipping, and a model that averages class scores
    (mmpretrain, and mmseg for each pixel) or merges boxes and their masks by NMS (mmdet's own merges boxes only).

    Raises:
        InputError: the test pipeline does not end in a Pack… step, before which the flip would go.
    """
    if 'tta_model' not in cfg:
        cfg.tta_model = _default_model(cfg)
    if 'tta_pipeline' not in cfg:
        cfg.tta_pipeline = _mirrored(next(dataset_configs(cfg, 'test')).pipeline)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in dataset_configs(cfg, 'test'):
        dataset.pipeline = cfg.tta_pipeline
    if cfg.get('default_scope') == 'mmpretrain':
        cfg.test_dataloader.pop('collate_fn', None)  # views of an image stay a list


def _default_model(cfg: Config) -> dict:
    if cfg.get('default_scope') == 'mmpretrain':
        return dict(type='AverageClsScoreTTA')
    if cfg.get('default_scope') == 'mmseg':
        return dict(type='SegTTAModel')
    register_instance_tta()
    print_log('Test-time augmentation: boxes of both views are merged by NMS, each with the mask of its own view.')
    return dict(type='InstanceTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))


def _mirrored(pipeline: list) -> list:
    pipeline = deepcopy(pipeline)
    pack = pipeline.pop()
    if not pack['type'].rsplit('.')[-1].startswith('Pack'):
        raise InputError(f'--tta: the test pipeline ends in {pack["type"]}, not in a Pack… step; give a tta_pipeline')
    if pack['type'] == 'PackDetInputs':
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')
        pack['meta_keys'] = keys
    loading = [step for step in pipeline if step['type'] == 'LoadAnnotations']
    pipeline = [step for step in pipeline if step not in loading]
    # mmseg's evaluation needs the label map, which is loaded last and so not mirrored; others do not need theirs.
    last = [*loading, pack] if pack['type'] == 'PackSegInputs' else [pack]
    return [*pipeline, dict(type='TestTimeAug', transforms=[MIRROR, *([step] for step in last)])]

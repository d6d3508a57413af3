"""The numbers of the papers' training recipes, and which parameters get no weight decay."""

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from xvit_det.hub import find_config, list_models

ARCHS = {'t': ('tiny', 0.05), 's': ('small', 0.05), 'm': ('medium', 0.1), 'b': ('base', 0.15)}  # name, drop path


@pytest.mark.parametrize('size', ARCHS)
def test_coco_3x(load, size):
    cfg = load(f'mask_rcnn_xvit_{size}_3x')
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, warmup.by_epoch, warmup.begin, warmup.end) == ('LinearLR', False, 0, 500)
    assert (steps.type, steps.by_epoch, steps.milestones, steps.gamma) == ('MultiStepLR', True, [27, 33], 0.1)
    assert cfg.train_cfg.max_epochs == steps.end == 36
    assert cfg.optim_wrapper.type == 'AutoAmpOptimWrapper'
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == ARCHS[size]
    assert cfg.model.backbone.mask_padding and 'init_cfg' not in cfg.model.backbone


@pytest.mark.parametrize('patch_size', [16, 8])
@pytest.mark.parametrize(
    ('arch', 'drop_path'), [('tiny_12', 0.0), ('small_12', 0.05), ('small_24', 0.1), ('medium_24', 0.15)]
)
def test_xcit_3x_is_xvits_but_for_the_backbone(load, arch, drop_path, patch_size):
    cfg, ours = load(f'mask_rcnn_xcit_{arch}_p{patch_size}_3x'), load('mask_rcnn_xvit_s_3x')
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.mixer, backbone.arch) == ('XViT', 'xca', arch)
    assert (backbone.get('patch_size', 16), backbone.drop_path_rate) == (patch_size, drop_path)
    assert not backbone.mask_padding
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader', 'test_dataloader'):
        assert cfg[key] == ours[key]


def test_xcit_is_tested_on_the_whole_shorter_side(load):
    for name in list_models('xcit_*_in1k'):
        cfg = load(name)
        for dataloader in (cfg.val_dataloader, cfg.test_dataloader):
            assert [t.get('crop_size', t.get('scale')) for t in dataloader.dataset.pipeline[1:3]] == [224, 224]
        assert cfg.model.backbone.out_type == 'cls_token' and cfg.train_cfg.max_epochs == 400


def test_coco_1x(load):
    cfg = load('mask_rcnn_xvit_s_1x')
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 12
    assert cfg.param_scheduler[1].milestones == [8, 11]
    assert cfg.optim_wrapper == load('mask_rcnn_xvit_s_3x').optim_wrapper


def test_coco_270k(load):
    cfg, epochs = load('mask_rcnn_xvit_s_270k'), load('mask_rcnn_xvit_s_3x')
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 270_000
    images = 117_266  # of train2017, with objects
    assert abs(270_000 * cfg.auto_scale_lr.base_batch_size / images - epochs.train_cfg.max_epochs) < 1
    assert not any(schedule.by_epoch for schedule in cfg.param_scheduler) and not cfg.default_hooks.checkpoint.by_epoch
    for name in ('model', 'optim_wrapper'):
        assert cfg[name] == epochs[name]
    assert cfg.train_dataloader.dataset == epochs.train_dataloader.dataset and 'paper' not in cfg


def resizes(pipeline: list) -> list:
    return [list(map(tuple, t.scales)) for t in pipeline if t.type == 'RandomChoiceResize']


def test_multi_scale_is_detrs(load):
    pipeline = load('mask_rcnn_xvit_s_3x').train_dataloader.dataset.pipeline
    (choice,) = [t for t in pipeline if t.type == 'RandomChoice']
    whole, cropped = choice.transforms
    sides = [(side, 1333) for side in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
    assert resizes(whole) == [sides]
    assert resizes(cropped) == [[(400, 1333), (500, 1333), (600, 1333)], sides]
    assert [t.crop_size for t in cropped if t.type == 'RandomCrop'] == [(384, 600)]


@pytest.mark.parametrize('name', [*(f'mask_rcnn_xvit_{size}_3x_fixed800' for size in ARCHS), 'mask_rcnn_xvit_s_1x'])
def test_fixed_size_has_one_scale_and_a_flip(load, name):
    pipeline = load(name).train_dataloader.dataset.pipeline
    assert [t.type for t in pipeline[2:]] == ['Resize', 'RandomFlip', 'PackDetInputs']
    assert pipeline[2].scale == (1333, 800) and pipeline[2].keep_ratio


@pytest.mark.parametrize('size', ARCHS)
def test_fixed800_differs_from_3x_in_the_pipeline_only(load, size):
    fixed, multi = (load(f'mask_rcnn_xvit_{size}_3x{variant}').to_dict() for variant in ('_fixed800', ''))
    assert not fixed.pop('paper', None)  # the paper's figures stand at one recipe
    multi.pop('paper', None)
    for cfg in (fixed, multi):
        del cfg['train_pipeline'], cfg['train_dataloader']['dataset']['pipeline']
    assert fixed == multi


@pytest.mark.parametrize('size', ARCHS)
def test_imagenet(load, size):
    cfg = load(f'xvit_{size}_in1k')
    warmup, cosine = cfg.param_scheduler
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (5e-4, 0.05)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 512
    assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, 5)
    assert warmup.start_factor * optimizer.lr == pytest.approx(1e-6)
    assert (cosine.type, cosine.begin, cosine.end, cosine.eta_min) == ('CosineAnnealingLR', 5, 400, 1e-5)
    assert cfg.train_cfg.max_epochs == 400
    assert cfg.train_dataloader.sampler.type == 'RepeatAugSampler'
    assert cfg.model.train_cfg.augments == [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    assert cfg.model.head.loss.label_smooth_val == 0.1
    transforms = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert transforms['RandAugment'].magnitude_level == 9 and transforms['RandAugment'].magnitude_std == 0.5
    assert transforms['RandomErasing'].erase_prob == 0.25
    assert transforms['RandomResizedCrop'].scale == 224
    assert (cfg.model.backbone.arch, cfg.model.backbone.drop_path_rate) == ARCHS[size]


@pytest.mark.parametrize('size', 'mb')
def test_384_is_fine_tuned_for_a_tenth_of_the_time(load, size):
    cfg, at_224 = load(f'xvit_{size}_384_in1k'), load(f'xvit_{size}_in1k')
    assert cfg.train_cfg.max_epochs * 10 == at_224.train_cfg.max_epochs
    assert cfg.model == at_224.model
    assert cfg.load_from == f'work_dirs/xvit_{size}_in1k/epoch_400.pth'
    assert cfg.optim_wrapper.optimizer.lr < at_224.optim_wrapper.optimizer.lr
    crops = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert crops['RandomResizedCrop'].scale == 384 and crops['RandAugment'].magnitude_level == 9
    for dataloader in (cfg.val_dataloader, cfg.test_dataloader):
        assert [t.get('crop_size', t.get('scale')) for t in dataloader.dataset.pipeline[1:3]] == [438, 384]


def weight_decays(cfg: Config, model: nn.Module) -> dict[str, float]:
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    return {name: decay[id(p)] for name, p in model.named_parameters()}


def test_weight_decay_of_the_detector(shapes_of):
    decays = weight_decays(*shapes_of('mask_rcnn_xvit_t_3x'))
    block = 'backbone.blocks.0.'
    matrices = [
        *(block + name for name in ('attn.qkv.weight', 'attn.proj.weight')),
        'neck.fpn_convs.0.conv.weight',
        'rpn_head.rpn_cls.weight',
        'roi_head.bbox_head.fc_cls.weight',
        'roi_head.mask_head.convs.0.conv.weight',
    ]
    assert {decays[name] for name in matrices} == {0.05}
    exempt = [
        *(block + name for name in ('norm1.weight', 'norm1.bias', 'attn.gamma_q', 'attn.gamma_kv')),
        *(block + name for name in ('affine1.alpha', 'affine1.beta', 'attn.qkv.bias')),
        'neck.fpn_convs.0.conv.bias',
        'roi_head.bbox_head.fc_cls.bias',
    ]
    assert {decays[name] for name in exempt} == {0.0}


def test_layer_decay_is_vitdets(shapes_of):
    cfg, model = shapes_of('mask_rcnn_xvit_s_3x_layer_decay')
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rate = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    rates = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert rates['backbone.stem.convs.0.weight'] == pytest.approx(1e-4 * 0.7**13)
    assert [rates[f'backbone.blocks.{i}.mlp.0.weight'] for i in (0, 11)] == pytest.approx([1e-4 * 0.7**12, 1e-4 * 0.7])
    assert {rate for name, rate in rates.items() if not name.startswith('backbone')} == {1e-4}
    assert cfg.load_from == 'work_dirs/xvit_s_in1k/epoch_400.pth'


@pytest.mark.parametrize(
    'name',
    [
        'mask_rcnn_xvit_t_3x',
        'mask_rcnn_xvit_s_3x_layer_decay',
        'xvit_t_in1k',
        'mask_rcnn_vil_s_3x',
        'vin_s_in1k',
        'mask_rcnn_xcit_tiny_12_p8_3x',
        'xcit_nano_12_p16_in1k',
    ],
)
def test_weight_decay_agrees_with_the_backbone(shapes_of, name):
    cfg, model = shapes_of(name)
    decays = weight_decays(cfg, model)
    exempt = {f'backbone.{p}' for p in model.backbone.no_weight_decay()}
    assert any(p.endswith('cls_token') for p in exempt) == name.endswith('in1k')
    assert any(p.endswith('pos_embed.table') for p in exempt) == ('xvit' not in name and 'xcit' not in name)
    assert any(p.endswith('temperature') for p in exempt) == ('xcit' in name)
    assert {p for p, decay in decays.items() if p.startswith('backbone.') and decay == 0} == exempt


BATCH_SIZES = {  # from the paper's code, where it names one; it does not for CCL, CvL and PiX, nor for hybrids apart
    64: 'vit hybrid_vit vit_rope hybrid_vit_rope pit pin pip hybrid_pit hybrid_pin hybrid_pip',
    128: 'vip vin hybrid_vip hybrid_vin',
    256: 'vil hybrid_vil',
    192: 'vip_rope vin_rope hybrid_vip_rope hybrid_vin_rope levit levip levil levin',
    320: 'vil_rope hybrid_vil_rope',
    512: 'fnet hybrid_fnet',
    640: 'mixer hybrid_mixer',
    160: 'cvt cvp cvl cvn ccp ccl ccn',
    48: 'cct',
}


@pytest.mark.parametrize('batch_size', BATCH_SIZES)
def test_vix_recipe(load, batch_size):
    for model in BATCH_SIZES[batch_size].split():
        for data in ('cifar10',) if 'rope' in model or model[-3:-1] == 'pi' else ('cifar10', 'tinyimagenet'):
            cfg = load(f'{model}_{data}')
            assert cfg.train_dataloader.batch_size == batch_size, cfg.filename
            assert cfg.optim_wrapper == dict(
                type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01)
            )
            assert 'param_scheduler' not in cfg and cfg.train_cfg.val_interval == 1
            long = data == 'tinyimagenet' and model[:2] in ('le', 'cc', 'cv') and model != 'cct'
            assert cfg.train_cfg.max_epochs == (150 if long else 100 if 'fnet' in model else 40), cfg.filename
            assert cfg.model.head.loss == dict(type='CrossEntropyLoss')  # no label smoothing
            steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
            assert steps == ['LoadImageFromFile'] * (data == 'tinyimagenet') + ['PackInputs']
            assert list(cfg.val_evaluator.topk) == [1, 5]


def test_batch_sizes_are_of_all_models():
    models = {name.rsplit('_', 1)[0] for ending in ('cifar10', 'tinyimagenet') for name in list_models(f'*_{ending}')}
    assert models == set(' '.join(BATCH_SIZES.values()).split())


def test_modern_extras_by_the_lines_that_their_file_shows(modern_config):
    cfg, paper = Config.fromfile(modern_config('vip_tinyimagenet')), Config.fromfile(find_config('vip_tinyimagenet'))
    assert cfg.model == paper.model and cfg.val_dataloader == paper.val_dataloader
    assert cfg.optim_wrapper.type == 'AutoAmpOptimWrapper'
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3, weight_decay=0.05)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.end, cosine.type, cosine.begin) == ('LinearLR', 5, 'CosineAnnealingLR', 5)
    assert cosine.end == cfg.train_cfg.max_epochs == 100 and cfg.train_cfg.val_interval == 1
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps == ['LoadImageFromFile', 'RandomFlip', 'RandAugment', 'RandomErasing', 'PackInputs']
    assert cfg.train_dataloader.batch_size == paper.train_dataloader.batch_size


@pytest.mark.parametrize(('method', 'queue_len'), [('mocov2', 65536), ('densecl', 16384)])
def test_self_supervision(load, method, queue_len):
    """MoCo v2's and DenseCL's numbers; the optimizer and its warm-up are MoCo v3's for transformers."""
    cfg = load(f'{method}_xvit_s_in1k_200e')
    assert (cfg.model.queue_len, cfg.model.momentum, cfg.model.head.temperature) == (queue_len, 0.001, 0.2)
    assert (cfg.model.neck.hid_channels, cfg.model.neck.out_channels) == (2048, cfg.model.feat_dim) == (2048, 128)
    assert cfg.model.backbone == dict(type='XViT', arch='small', out_type='featmap')
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 256
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.end, cosine.type, cosine.begin) == ('LinearLR', 40, 'CosineAnnealingLR', 40)
    assert cosine.end == cfg.train_cfg.max_epochs == 200
    assert cfg.optim_wrapper.type == 'AutoAmpOptimWrapper'
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1.5e-4, weight_decay=0.1)
    views = cfg.train_dataloader.dataset.pipeline[1]
    assert views.num_views == 2 and views.transforms[0][0].scale == 224
    assert cfg.model.get('loss_lambda', 0.5) == 0.5


def test_distillation_takes_one_view_of_each_image(load):
    cfg = load('distill_xvit_s_in1k_200e')
    views = cfg.train_dataloader.dataset.pipeline[1]
    steps = [step.type for step in views.transforms[0]]
    assert views.num_views == 1
    assert steps == ['RandomResizedCrop', 'RandomApply', 'RandomGrayscale', 'GaussianBlur', 'RandomFlip']
    assert cfg.model.backbone == dict(type='XViT', arch='small', out_type='featmap')
    assert cfg.model.teacher_channels == 384 and 'init_cfg' not in cfg.model.teacher

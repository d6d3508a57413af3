"""Every segmentation config builds, its heads fit the maps, and it has the recipe's numbers; each head trains."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from xvit_det import create_model, hub
from xvit_det.backbones import Backbone
from xvit_det.config.load import load_config
from xvit_det.config.model_check import check_model
from xvit_det.deploy import fuse
from xvit_det.errors import InputError

NAMES = [name for name in hub.list_models() if hub.find_config(name).parent.name == 'segmentation']
ADE20K = [name for name in NAMES if 'ade20k' in name]
BY_RECIPE = [name for name in ADE20K if name.startswith(('semantic_fpn', 'upernet'))]
SIZES = {'xvit_t': ('tiny', 192), 'xvit_s': ('small', 384), 'xvit_m': ('medium', 384), 'xvit_b': ('base', 512)}
SIZES |= {'vin_s': ('small', 384), 'vip_s': ('small', 384)}
SMALL = dict(embed_dims=32, depth=4, attn_dims=16, num_heads=2, mlp_ratio=2, num_class_layers=0, layer_scale=1.0)
HEADS = {
    'semantic_fpn_xvit_s_ade20k_80k': dict(
        neck=dict(in_channels=[32] * 4, out_channels=32), decode_head=dict(in_channels=[32] * 4, channels=16)
    ),
    'upernet_xvit_s_ade20k_160k': dict(
        decode_head=dict(in_channels=[32] * 4, channels=16), auxiliary_head=dict(in_channels=32, channels=16)
    ),
    'segformer_xvit_s_ade20k_160k': dict(decode_head=dict(in_channels=[32] * 4, channels=16)),
    'mask2former_xvit_s_ade20k_160k': dict(decode_head=dict(in_channels=[32] * 4, num_queries=10)),
}


def test_all_sizes_with_both_heads():
    heads = {'semantic_fpn': '80k', 'upernet': '160k'}
    assert {f'{head}_{size}_ade20k_{length}' for head, length in heads.items() for size in SIZES} == set(BY_RECIPE)


@pytest.mark.parametrize('name', NAMES)
def test_heads_fit_the_maps(name, shapes_of):
    cfg, model = shapes_of(name)
    check_model(cfg)
    assert isinstance(model.backbone, Backbone) and model.backbone.out_strides == (4, 8, 16, 32)
    auxiliary = [model.auxiliary_head] if model.with_auxiliary_head else []
    classes = {'ade20k': 150, 'cityscapes': 19, 'custom': len(cfg.get('classes', ()))}
    (number,) = (n for part, n in classes.items() if part in name)
    assert [head.num_classes for head in (model.decode_head, *auxiliary)] == [number] * (1 + len(auxiliary))
    (crop,) = (step.crop_size for step in cfg.train_pipeline if step.type == 'RandomCrop')
    assert tuple(cfg.model.data_preprocessor.size) == tuple(crop)


@pytest.mark.parametrize('name', BY_RECIPE)
def test_recipe(name, load):
    cfg = load(name)
    iterations = 80_000 if name.endswith('_80k') else 160_000
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=6e-5, weight_decay=0.01)
    warmup, poly = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor, warmup.begin, warmup.end) == ('LinearLR', 1e-6, 0, 1500)
    assert (poly.type, poly.power, poly.eta_min, poly.begin, poly.end) == ('PolyLR', 1.0, 0.0, 1500, iterations)
    assert not warmup.by_epoch and not poly.by_epoch
    assert cfg.train_cfg.max_iters == iterations
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert cfg.model.test_cfg.mode == 'whole'
    assert cfg.model.backbone.drop_path_rate == (0.05 if 'xvit' in name else 0.1)  # in ViX it grows from 0: mean 0.05


@pytest.mark.parametrize('name', BY_RECIPE)
def test_heads_of_the_recipe(name, shapes_of):
    _, model = shapes_of(name)
    (arch, width) = next(value for key, value in SIZES.items() if key in name)
    assert model.backbone.out_channels == (width,) * 4
    if 'xvit' in name:
        twelve = {'small': (3, 5, 7, 11)}
        assert model.backbone.out_indices == twelve.get(arch, (7, 11, 15, 23))
    head = model.decode_head
    if name.startswith('semantic_fpn'):
        assert (model.neck.out_channels, head.channels, head.feature_strides) == (width, 128, [4, 8, 16, 32])
        assert not model.with_auxiliary_head
    else:
        assert not model.with_neck and head.channels == 512
        auxiliary = model.auxiliary_head
        assert (auxiliary.channels, auxiliary.in_index, auxiliary.loss_decode.loss_weight) == (256, 2, 0.4)


@pytest.mark.parametrize('name', ['semantic_fpn_xvit_s_cityscapes_80k', 'upernet_xvit_s_cityscapes_160k'])
def test_cityscapes_differs_from_ade20k_in_data_and_classes_only(name, load):
    ours, ade20k = (load(n).to_dict() for n in (name, name.replace('cityscapes', 'ade20k')))
    for cfg in (ours, ade20k):
        for head in ('decode_head', 'auxiliary_head'):
            cfg['model'].get(head, {}).pop('num_classes', None)
        del cfg['model']['data_preprocessor']['size']
        for key in ('data_root', 'dataset_type', 'crop_size', 'train_pipeline', 'test_pipeline'):
            del cfg[key]
        for split in ('train', 'val', 'test'):
            del cfg[f'{split}_dataloader']['dataset']
    assert ours == ade20k


@pytest.fixture(scope='module', params=HEADS)
def small(request) -> torch.nn.Module:
    """A shipped model with each decode head, and few channels."""
    torch.manual_seed(0)
    return create_model(request.param, backbone=dict(arch=SMALL), **copy.deepcopy(HEADS[request.param]))


def batch(shapes: list[tuple[int, int]], classes: int = 5) -> dict:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    samples = []
    for size in shapes:
        labels = torch.randint(classes, (1, *size))
        labels[:, :4] = 255
        meta = dict(img_shape=size, ori_shape=size)
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels)))
    return dict(inputs=[torch.randint(256, (3, *size), dtype=torch.uint8) for size in shapes], data_samples=samples)


def test_one_training_step(small):
    small.train()
    small.data_preprocessor.size = (96, 96)
    losses = small(**small.data_preprocessor(batch([(96, 64), (80, 96)]), training=True), mode='loss')
    total, _ = small.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    idle = [name for name, p in small.named_parameters() if p.requires_grad and p.grad is None]
    small.zero_grad()
    assert not idle  # DDP stops at a parameter without a gradient


def test_one_prediction_fused_alike(small):
    small.eval()
    data = small.data_preprocessor(batch([(60, 90)]), training=False)
    with torch.no_grad():
        plain, fused = (
            model(**copy.deepcopy(data), mode='predict')[0] for model in (small, fuse(copy.deepcopy(small)))
        )
    assert plain.pred_sem_seg.data.shape == (1, 60, 90)
    assert plain.seg_logits.data.shape == (150, 60, 90)
    assert plain.pred_sem_seg.data.min() >= 0 and plain.pred_sem_seg.data.max() < 150
    scale = plain.seg_logits.data.abs().max()
    torch.testing.assert_close(fused.seg_logits.data, plain.seg_logits.data, rtol=0, atol=1e-4 * scale.item())


def test_mmsegs_inference_by_name_and_by_path(tmp_path):
    from mmseg.apis import inference_model, init_model

    name = 'semantic_fpn_xvit_t_ade20k_80k'
    by_name = create_model(name)
    torch.save(dict(state_dict=by_name.state_dict(), meta=dict(dataset_meta=None)), tmp_path / 'weights.pth')
    by_path = init_model(str(hub.find_config(name)), str(tmp_path / 'weights.pth'), device='cpu')
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / 'image.png')
    by_name.cfg.test_pipeline[1].scale = by_path.cfg.test_pipeline[1].scale = (96, 64)
    init_default_scope('mmseg')
    maps = [inference_model(model, str(tmp_path / 'image.png')).pred_sem_seg.data for model in (by_name, by_path)]
    assert maps[0].shape == (1, 48, 64) and torch.equal(*maps)
    assert torch.equal(inference_model(by_path, image[:, :, ::-1]).pred_sem_seg.data, maps[0])


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        ('upernet', {'auxiliary_head.in_index': 4}, r'auxiliary_head selects map 4 \(in_index\), but there are 4 maps'),
        ('upernet', {'auxiliary_head.in_channels': 192}, r'auxiliary_head.in_channels is 192, but .* have \[384\]'),
        (
            'upernet',
            {'backbone.out_strides': (8, 16, 32)},
            r'decode_head selects map 3 .* 3 maps, 0 to 2, of strides \[8, 16, 32\]',
        ),
        (
            'upernet',
            {'decode_head.in_channels': [96, 192, 384, 768]},
            r'decode_head.in_channels is \[96, 192, 384, 768\]',
        ),
        ('semantic_fpn', {'neck.in_channels': [192] * 4}, r'neck \(FPN\) does not accept the maps of the backbone'),
        (
            'semantic_fpn',
            {'decode_head.feature_strides': [2, 4, 8, 16]},
            r'strides \[2, 4, 8, 16\], but gets .* \[4, 8',
        ),
        ('mask2former', {'decode_head.strides': [8, 16, 32, 64]}, r'strides \[8, 16, 32, 64\], but gets .* \[4, 8'),
        ('mask2former', {'decode_head.in_channels': [256, 512, 1024, 2048]}, r'decode_head.in_channels is \[256, 512'),
    ],
)
def test_heads_that_do_not_fit(name, changes, message):
    cfg = load_config(next(n for n in NAMES if n.startswith(f'{name}_xvit_s_ade20k')))
    cfg.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    with pytest.raises(InputError, match=message):
        check_model(cfg)


def test_one_head_in_a_list_of_heads():
    cfg = load_config('upernet_xvit_s_ade20k_160k')
    cfg.model.auxiliary_head = [cfg.model.auxiliary_head, {**cfg.model.auxiliary_head, 'in_index': 7}]
    with pytest.raises(InputError, match=r'auxiliary_head.1 selects map 7'):
        check_model(cfg)


def test_other_backbones_are_not_checked():
    cfg = load_config('upernet_xvit_s_ade20k_160k')
    cfg.model.backbone = dict(type='MixVisionTransformer')
    check_model(cfg)

"""Each row of the tables in docs/mmpretrain.md works as it stands there: a training step, and a prediction.

MMPretrain's functions for inference take our configs and models.
"""

import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope

from xvit_det.compat.quiet import import_quietly
from xvit_det.config.model_check import check_model
from xvit_det.config.pretrain_check import MASKED
from xvit_det.errors import InputError
from xvit_det.hub import create_model, find_config

PAGE = (Path(__file__).resolve().parents[2] / 'docs' / 'mmpretrain.md').read_text()
BATCH = 4


def cells(line: str) -> list[str]:
    return [cell.strip(' `') for cell in line.strip('|').split(' | ')]


def rows(title: str) -> list[list[str]]:
    """The rows of the table whose heading begins with ``title``, one for each of the values of `out_type`."""
    (table,) = re.findall(rf'^(\| {title}.*)\n\|[-|]+\n((?:\|.*\n)+)', PAGE, re.MULTILINE)
    column = cells(table[0]).index('out_type')
    return [
        [*row[:column], out_type, *row[column + 1 :]]
        for row in map(cells, table[1].splitlines())
        for out_type in re.findall(r'\w+', row[column])
    ]


HEADS, METHODS = rows(r'`out_type` \| `neck`'), rows('method')


def backbone(out_type: str) -> dict:
    return dict(type='XViT', arch='small', out_type=out_type)


def train_a_step(model: torch.nn.Module, data: dict) -> None:
    """Step, and make sure that the losses are finite and that no weight is left without a gradient."""
    optimizer = OptimWrapper(torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5))
    model.train()
    with optimizer.optim_context(model):
        losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    optimizer.step()


def labelled(head: dict) -> dict:
    from mmpretrain.structures import DataSample

    many = 'MultiLabel' in head['type'] or head['type'] == 'CSRAClsHead'
    samples = [DataSample().set_gt_label([i, i + 1] if many else i) for i in range(BATCH)]
    return dict(inputs=torch.randint(256, (BATCH, 3, 64, 64), dtype=torch.uint8), data_samples=samples)


@pytest.mark.parametrize(('out_type', 'neck', 'head'), HEADS)
def test_head(out_type, neck, head):
    import_quietly('mmpretrain')
    head = eval(head)
    parts = dict(backbone=backbone(out_type), neck=eval(neck), head=head)
    cfg = Config(dict(default_scope='mmpretrain', model=dict(type='ImageClassifier', **parts)))
    check_model(cfg)
    torch.manual_seed(0)
    model = MODELS.build({**cfg.model, '_scope_': 'mmpretrain'})
    train_a_step(model, labelled(head))
    with torch.no_grad():
        samples = model.eval()(**model.data_preprocessor(labelled(head)), mode='predict')
    assert [tuple(sample.pred_score.shape) for sample in samples] == [(10,)] * BATCH


def test_retriever():
    import_quietly('mmpretrain')
    encoder = [backbone('featmap'), dict(type='GlobalAveragePooling')]
    head = dict(type='ArcFaceClsHead', in_channels=384, num_classes=10)
    model = dict(type='ImageToImageRetriever', image_encoder=encoder, head=head, prototype=torch.randn(5, 384))
    check_model(Config(dict(default_scope='mmpretrain', model=model)))
    model = MODELS.build({**model, '_scope_': 'mmpretrain'})
    train_a_step(model, labelled(head))
    with torch.no_grad():
        samples = model.eval()(**model.data_preprocessor(labelled(head)), mode='predict')
    assert [tuple(sample.pred_score.shape) for sample in samples] == [(5,)] * BATCH  # to each of the prototypes


def stock(path: str, out_type: str, options: str = '') -> Config:
    """A config of mmpretrain with X-ViT-S in it, and with what a row says."""
    import_quietly('mmpretrain')
    cfg = get_config(f'mmpretrain::{path}')
    cfg.merge_from_dict(
        dict(model=dict(backbone=dict(_delete_=True, **backbone(out_type)), **eval(f'dict({options})')))
    )
    return cfg


def narrow(model: dict) -> None:
    """Thinner layers behind the backbone, and a shorter queue, which take the time of a step otherwise."""
    for key in ('neck', 'head'):
        model[key] = {k: 64 if k == 'hid_channels' else v for k, v in model[key].items()}
    if model['type'] == 'BarlowTwins':
        model['neck']['out_channels'] = model['head']['in_channels'] = 64
    if 'queue_len' in model:
        model['queue_len'] = 64


@pytest.mark.parametrize(('method', 'path', 'out_type', 'options'), METHODS)
def test_method(method, path, out_type, options):
    cfg = stock(path, out_type, options)
    check_model(cfg)
    narrow(cfg.model)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build({**cfg.model, '_scope_': 'mmpretrain'}))  # as the Runner does
    sides = [64, 64] + [32] * 6 * (method == 'SwAV')
    views = [torch.randint(256, (BATCH, 3, side, side), dtype=torch.uint8) for side in sides]
    train_a_step(model, dict(inputs=views, data_samples=labelled(dict(type=''))['data_samples']))


MASKED_CONFIGS = {
    'MAE': 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    'SimMIM': 'simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py',
    'BEiT': 'beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py',
    'MaskFeat': 'maskfeat/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py',
    'MixMIM': 'mixmim/mixmim_mixmim-base_16xb128-coslr-300e_in1k.py',
    'SparK': 'spark/spark_sparse-resnet50_8xb512-amp-coslr-800e_in1k.py',
}


@pytest.mark.parametrize('method', MASKED_CONFIGS)
def test_masked_image_modelling_is_refused(method):
    with pytest.raises(InputError, match=f'XViT.* takes no mask: .*, not {method}$'):
        check_model(stock(MASKED_CONFIGS[method], 'featmap'))


def test_refused_methods_are_on_the_page_and_in_mmpretrain():
    import_quietly('mmpretrain')
    (listed,) = re.findall(r'^(MAE, .*) are refused', PAGE, re.MULTILINE)
    assert set(re.split(', | and ', listed)) == set(MASKED)
    with MODELS.switch_scope_and_registry('mmpretrain') as registry:
        assert all(registry.get(name) for name in MASKED)


@pytest.mark.parametrize(
    ('path', 'out_type', 'options', 'message'),
    [
        (METHODS[0][1], 'featmap', '', r'model.neck \(MoCoV2Neck\) does not take 1 map of 384 channels'),
        (METHODS[0][1], 'cls_token', 'neck=dict(in_channels=384)', r'\(MoCoV2Neck\) does not take 1 vector of 384'),
        (METHODS[6][1], 'pyramid', 'neck=dict(in_channels=384)', 'SwAV takes no pyramid'),
        (METHODS[7][1], 'featmap', 'neck=dict(in_channels=384)', r'\(NonLinearNeck\) does not take 1 map of 384'),
    ],
)
def test_wrong_combinations(path, out_type, options, message):
    with pytest.raises(InputError, match=message):
        check_model(stock(path, out_type, options))


def test_several_outputs_are_refused():
    cfg = stock(METHODS[0][1], 'featmap', 'neck=dict(in_channels=384)')
    cfg.model.backbone.out_indices = (5, 11)
    with pytest.raises(InputError, match='MoCo takes one output, not 2 maps of 384/384 channels'):
        check_model(cfg)


def test_a_queue_of_broken_batches_is_refused():
    cfg = stock(METHODS[0][1], 'featmap', 'neck=dict(in_channels=384)')
    cfg.train_dataloader.batch_size = 12
    with pytest.raises(InputError, match='queue_len=65536 is not a multiple of the batch size 12.*queue_len=65532'):
        check_model(cfg)


@pytest.mark.parametrize('head', [dict(type='DeiTClsHead'), dict(type='ConformerHead')])
def test_heads_of_two_tokens_are_refused(head):
    import_quietly('mmpretrain')
    head |= dict(num_classes=10, in_channels=384 if head['type'] == 'DeiTClsHead' else [384, 384])
    model = dict(type='ImageClassifier', backbone=backbone('cls_token'), head=head)
    with pytest.raises(InputError, match=rf'model.head \({head["type"]}\) needs .* not 1 vector of 384 channels'):
        check_model(Config(dict(default_scope='mmpretrain', model=model)))


PHOTOGRAPH = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ('name', 'label_of'), [('xvit_t_in1k', 'tench'), ('vip_cifar10', 'airplane'), ('vin_tinyimagenet', None)]
)
def test_inference_by_path_and_by_model(monkeypatch, name, label_of):
    """Images of any size, also where training takes those of a dataset as they are."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())  # without the Runners of earlier tests
    from mmpretrain import FeatureExtractor, ImageClassificationInferencer, get_model

    path = str(find_config(name))
    for inferencer in (ImageClassificationInferencer(path), ImageClassificationInferencer(create_model(name))):
        (result,) = inferencer(PHOTOGRAPH)
        assert result['pred_scores'].sum() == pytest.approx(1, abs=1e-4)
    names = ImageClassificationInferencer(path).classes
    assert label_of is None or names[0].startswith(label_of)
    (features,) = FeatureExtractor(path)(PHOTOGRAPH, stage='backbone')
    model = get_model(path)
    assert [f.shape for f in features] == [(channels,) for channels in model.backbone.out_channels]
    side = model.backbone.img_size[0] if hasattr(model.backbone, 'img_size') else 64
    (vectors,) = model.extract_feat(torch.zeros(1, 3, side, side))
    assert vectors.shape == (1, *model.backbone.out_channels)


def test_features_of_a_self_supervised_method():
    from mmpretrain import get_model

    (maps,) = get_model(str(find_config('mocov2_xvit_s_in1k_200e'))).extract_feat(torch.zeros(1, 3, 64, 96))
    assert maps.shape == (1, 384, 4, 6)

"""Merging the predictions of an image and its mirror image, masks included."""

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import nn

from xvit_det.config.tta import use_tta
from xvit_det.errors import InputError

pytest.importorskip('mmdet')


def config(last: str = 'PackDetInputs') -> Config:
    dataset = dict(type='CocoDataset', pipeline=[dict(type='LoadAnnotations'), dict(type=last)])
    model = dict(type='MaskRCNN')
    return Config(dict(default_scope='mmdet', model=model, test_dataloader=dict(dataset=dataset)))


class Detector(nn.Module):
    def test_step(self, data):
        """Never called here."""


def sample(boxes: list[list[float]], scores: list[float], flip: str | None):
    """Predictions in an image of 4 x 10 pixels, each box filled by its mask."""
    from mmdet.structures import DetDataSample

    masks = torch.zeros(len(boxes), 4, 10, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    meta = dict(ori_shape=(4, 10), flip=flip is not None, flip_direction=flip)
    labels = torch.zeros(len(boxes), dtype=torch.long)
    found = InstanceData(
        bboxes=torch.tensor(boxes).float().reshape(-1, 4), scores=torch.tensor(scores), labels=labels, masks=masks
    )
    return DetDataSample(metainfo=meta, pred_instances=found)


def test_masks_are_mirrored_back_and_follow_their_boxes():
    cfg = config()
    use_tta(cfg)
    model = MODELS.build(ConfigDict(cfg.tta_model, module=Detector()))
    plain = sample([[0, 0, 3, 4]], [0.6], flip=None)
    # The same object, and one on the right.
    mirrored = sample([[7, 0, 10, 4], [0, 1, 2, 3]], [0.9, 0.5], flip='horizontal')
    (merged,) = model.merge_preds([[plain, mirrored]])
    found = merged.pred_instances
    assert found.bboxes.tolist() == [[0, 0, 3, 4], [8, 1, 10, 3]]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.5]))
    expected = sample([[0, 0, 3, 4], [8, 1, 10, 3]], [0.9, 0.5], flip=None).pred_instances.masks
    assert torch.equal(found.masks, expected)


@pytest.mark.parametrize(('flip', 'box'), [('vertical', [0, 1, 3, 4]), ('diagonal', [7, 1, 10, 4])])
def test_masks_of_other_flips(flip, box):
    cfg = config()
    use_tta(cfg)
    model = MODELS.build(ConfigDict(cfg.tta_model, module=Detector()))
    (merged,) = model.merge_preds([[sample([], [], flip=None), sample([box], [0.9], flip=flip)]])
    assert merged.pred_instances.bboxes.tolist() == [[0, 0, 3, 3]]
    assert torch.equal(merged.pred_instances.masks, sample([[0, 0, 3, 3]], [0.9], flip=None).pred_instances.masks)


def test_nothing_found_in_either_view():
    cfg = config()
    use_tta(cfg)
    model = MODELS.build(ConfigDict(cfg.tta_model, module=Detector()))
    (merged,) = model.merge_preds([[sample([], [], flip=None), sample([], [], flip='horizontal')]])
    assert len(merged.pred_instances) == 0


def test_default_pipeline_mirrors_before_packing():
    cfg = config()
    use_tta(cfg)
    (step,) = cfg.test_dataloader.dataset.pipeline
    mirror, (pack,) = step.transforms
    assert [m.prob for m in mirror] == [1.0, 0.0] and 'flip_direction' in pack.meta_keys
    assert cfg.model.module == dict(type='MaskRCNN')
    with pytest.raises(InputError, match='ends in LoadAnnotations'):
        use_tta(config(last='LoadAnnotations'))


def test_label_maps_are_loaded_after_mirroring():
    """And so stay as they are for mmseg's evaluation."""
    dataset = dict(pipeline=[dict(type='Resize'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])
    cfg = Config(dict(default_scope='mmseg', model=dict(), test_dataloader=dict(dataset=dataset)))
    use_tta(cfg)
    resize, views = cfg.test_dataloader.dataset.pipeline
    _, load, pack = views.transforms
    assert [step.type for step in (resize, *load, *pack)] == ['Resize', 'LoadAnnotations', 'PackSegInputs']
    assert cfg.model.type == 'SegTTAModel'


def test_what_the_config_has_counts():
    cfg = config()
    cfg.tta_model, cfg.tta_pipeline = dict(type='Mine'), [dict(type='Own')]
    use_tta(cfg)
    assert cfg.model.type == 'Mine' and cfg.test_dataloader.dataset.pipeline == [dict(type='Own')]

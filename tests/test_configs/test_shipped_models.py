"""Every shipped config builds, has the parameters it should have, takes a training step and predicts."""

import pytest
import torch

from xvit_det.analysis import count_parameters

PARAMETERS = {
    'mask_rcnn_xvit_t_3x': 29_815_560,
    'mask_rcnn_xvit_t_3x_fixed800': 29_815_560,
    'mask_rcnn_xvit_s_3x': 39_672_672,
    'mask_rcnn_xvit_s_3x_fixed800': 39_672_672,
    'mask_rcnn_xvit_s_3x_layer_decay': 39_672_672,
    'mask_rcnn_xvit_s_1x': 39_672_672,
    'mask_rcnn_xvit_s_270k': 39_672_672,
    'mask_rcnn_xvit_m_3x': 56_376_864,
    'mask_rcnn_xvit_m_3x_fixed800': 56_376_864,
    'mask_rcnn_xvit_b_3x': 82_287_280,
    'mask_rcnn_xvit_b_3x_fixed800': 82_287_280,
    'xvit_t_in1k': 10_207_184,
    'xvit_s_in1k': 20_753_016,
    'xvit_m_in1k': 37_457_208,
    'xvit_m_384_in1k': 37_457_208,
    'xvit_b_in1k': 63_957_704,
    'xvit_b_384_in1k': 63_957_704,
    # XCiT's paper prints 44.3, 65.8 and 101.1 million, without the affines' shifts.
    'mask_rcnn_xcit_small_12_p16_3x': 44_386_560 + 12 * 3 * 384,
    'mask_rcnn_xcit_small_24_p16_3x': 65_804_640 + 24 * 3 * 384,
    'mask_rcnn_xcit_medium_24_p16_3x': 101_152_240 + 24 * 3 * 512,
}


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameter_totals(shapes_of, name):
    _, model = shapes_of(name)
    assert count_parameters(model) == PARAMETERS[name]


def test_neck_or_head_takes_the_backbones_channels(built):
    model = built.cfg.model
    if model.type == 'FeatureDistillation':
        return  # its projections follow from the backbone
    consumer = model.neck or model.head
    channels = consumer.in_channels if isinstance(consumer.in_channels, list) else [consumer.in_channels]
    assert channels == list(built.backbone.out_channels)


def test_one_training_step(built, random_batch):
    built.train()
    built.teacher_is_trained = True  # nor any other weight
    losses = built(**built.data_preprocessor(random_batch, training=True), mode='loss')
    total, _ = built.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    idle = [name for name, p in built.named_parameters() if p.requires_grad and p.grad is None]
    built.zero_grad()
    # DDP stops at a parameter without a gradient
    assert not idle


def test_one_prediction(built, random_batch):
    built.eval()
    if 'test_cfg' not in built.cfg:  # a self-supervised method has features only
        with torch.no_grad():
            (features,) = built(torch.zeros(1, 3, 64, 64), mode='tensor')
        assert features.shape == (1, *built.backbone.out_channels, 4, 4)
        return
    with torch.no_grad():
        samples = built(**built.data_preprocessor(random_batch, training=False), mode='predict')
    assert len(samples) == 2
    for sample in samples:
        if built.cfg.default_scope == 'mmpretrain':
            torch.testing.assert_close(sample.pred_score.sum(), torch.tensor(1.0))
            assert sample.pred_score.shape == (built.cfg.model.head.num_classes,)
        else:
            assert sample.pred_instances.bboxes.shape[1] == 4
            assert torch.isfinite(sample.pred_instances.bboxes).all()
            assert ('masks' in sample.pred_instances) == built.with_mask

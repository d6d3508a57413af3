"""Graphs for export compute what mmdet's, mmseg's and mmpretrain's models predict."""

import pytest
import torch
import torchvision
from mmdet.structures import DetDataSample

from xvit_det.deploy.graphs.boxes import suppress
from xvit_det.deploy.graphs.models import GRAPHS

DETECTORS = {
    'retinanet_xvit_s_1x': 32,
    'faster_rcnn_xvit_s_1x': 32,
    'mask_rcnn_xvit_s_3x': 32,
    'dino_xvit_s_12e': 1,
}


def mmdet_finds(model, batch, original_sizes):
    """mmdet's predictions of a padded batch of images (H, W, 3) in RGB."""
    samples = []
    for image, size in zip(batch, original_sizes, strict=True):
        h, w = image.shape[:2]
        meta = dict(img_shape=(h, w), ori_shape=tuple(size), scale_factor=(w / size[1], h / size[0]))
        samples.append(DetDataSample(metainfo=meta))
    inputs = [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) for image in batch]
    with torch.no_grad():
        return [sample.pred_instances for sample in model.test_step(dict(inputs=inputs, data_samples=samples))]


@pytest.mark.parametrize('name', DETECTORS)
def test_a_padded_batch_is_detected_as_by_mmdet(name, small_detector, draw_images, pad):
    model = small_detector(name)
    batch, originals = draw_images((96, 128), (75, 101), (128, 64)), [(192, 256), (75, 101), (100, 50)]
    stacked, sizes = pad(batch, DETECTORS[name])
    graph = GRAPHS[type(model).__name__](model).eval()
    with torch.no_grad():
        image, boxes, scores, labels, *masks = graph(stacked, sizes, torch.tensor(originals), torch.tensor(0.0))
    for i, expected in enumerate(mmdet_finds(model, batch, originals)):
        chosen = image == i
        assert chosen.sum() == len(expected) > 3
        torch.testing.assert_close(scores[chosen], expected.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(boxes[chosen], expected.bboxes, rtol=0, atol=1e-2)
        assert (labels[chosen] == expected.labels).all()
        if masks:
            h, w = originals[i]
            assert not masks[0][chosen][:, h:].any() or h == max(size[0] for size in originals)
            assert (masks[0][chosen][:, :h, :w] == expected.masks).float().mean() > 0.999


def test_suppression_exports_for_any_number_of_boxes():
    """Also for none and for one, of which torchvision's own declaration of NMS makes an assertion that fails."""

    class Suppression(torch.nn.Module):
        def forward(self, boxes, scores, groups):
            return suppress(boxes, scores, groups, torch.zeros_like(groups), 0.5)

    def draw(count):
        corners = 50 * torch.rand(count, 2)
        return torch.cat((corners, corners + 50), 1), torch.rand(count), torch.arange(count) % 2

    torch.manual_seed(0)
    number = torch.export.Dim('number', min=0, max=1000)
    program = torch.export.export(Suppression(), draw(9), dynamic_shapes=[{0: number}] * 3, strict=False).module()
    for count in (0, 1, 2, 40):
        boxes, scores, groups = draw(count)
        kept = program(boxes, scores, groups)
        assert kept.tolist() == torchvision.ops.batched_nms(boxes, scores, groups, 0.5).tolist()
    assert 2 < len(kept) < 40

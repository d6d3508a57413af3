"""The stand-in ops against independent definitions, and against mmcv's compiled ops where the environment has them."""

import importlib
from importlib.machinery import EXTENSION_SUFFIXES

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from xvit_det import InputError
from xvit_det.compat import mmcv_ext as ours
from xvit_det.compat.ops import roi_align

mmcv_ops = pytest.importorskip('mmcv.ops', reason='mmcv is not installed')


@pytest.fixture(scope='module')
def compiled():
    ext = importlib.import_module('mmcv._ext')
    if not ext.__file__.endswith(tuple(EXTENSION_SUFFIXES)):
        pytest.skip('mmcv has no compiled ops here; `make setup-compiled` builds them')
    return ext


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def random_boxes(n: int, size: float = 60.0) -> tuple[Tensor, Tensor]:
    corner = torch.rand(n, 2) * size
    scores = (torch.rand(n) * 50).round() / 50  # with ties
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * 30], 1), scores


def random_rois(n: int, images: int) -> Tensor:
    return torch.cat([torch.randint(images, (n, 1)).float(), random_boxes(n)[0]], 1)


def plain_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    """The definition, in float32: keep a box unless a better one that was kept overlaps it more than the threshold."""
    b, kept = boxes.numpy(), []
    side = np.float32(offset)
    area = (b[:, 2] - b[:, 0] + side) * (b[:, 3] - b[:, 1] + side)
    for i in sorted(range(len(b)), key=lambda i: -scores[i].item()):
        for k in kept:
            w = max(min(b[i, 2], b[k, 2]) - max(b[i, 0], b[k, 0]) + side, np.float32(0))
            h = max(min(b[i, 3], b[k, 3]) - max(b[i, 1], b[k, 1]) + side, np.float32(0))
            if w * h / (area[i] + area[k] - w * h) > np.float32(threshold):
                break
        else:
            kept.append(i)
    return kept


class TestNMS:
    @pytest.mark.parametrize('offset', [0, 1])
    @pytest.mark.parametrize('threshold', [0.1, 0.5, 0.7])
    def test_definition(self, threshold, offset):
        boxes, scores = random_boxes(150)
        assert ours.nms(boxes, scores, threshold, offset).tolist() == plain_nms(boxes, scores, threshold, offset)

    def test_overlap_equal_to_the_threshold_is_kept(self):
        boxes = torch.tensor([[0, 0, 10, 5.5], [0, 4.5, 10, 10]])  # overlap 10 of 100
        assert len(ours.nms(boxes, torch.tensor([0.9, 0.8]), 0.1, 0)) == 2
        assert len(ours.nms(boxes, torch.tensor([0.9, 0.8]), 0.09, 0)) == 1

    def test_no_boxes(self):
        assert ours.nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0).shape == (0,)

    @pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5, 0.7])
    def test_equals_compiled(self, compiled, threshold):
        for n in (0, 1, 300, 2000):
            boxes = random_boxes(n)[0].round()  # overlaps that are equal to the threshold occur
            scores = torch.randperm(n) / (n + 1)  # no ties: mmcv's order of equal scores is arbitrary
            expected = compiled.nms(boxes, scores, iou_threshold=threshold, offset=0)
            assert torch.equal(ours.nms(boxes, scores, iou_threshold=threshold, offset=0), expected)

    def test_batched_nms_of_mmcv_keeps_classes_apart(self):
        boxes, scores = torch.tensor([[0.0, 0, 10, 10]] * 3), torch.tensor([0.9, 0.8, 0.7])
        dets, keep = mmcv_ops.batched_nms(boxes, scores, torch.tensor([0, 1, 0]), dict(type='nms', iou_threshold=0.5))
        assert keep.tolist() == [0, 1] and dets.shape == (2, 5)


class TestSoftNMS:
    def test_linear_by_hand(self):
        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])  # overlaps of the first: 0.5 and 0
        dets = torch.zeros(3, 5)
        kept = ours.softnms(boxes, torch.tensor([0.9, 0.8, 0.5]), dets, 0.3, 0.5, 0.01, 1, 0)
        assert kept.tolist() == [0, 2, 1]
        assert torch.allclose(dets[:, 4], torch.tensor([0.9, 0.5, 0.4]))
        assert torch.equal(dets[:, :4], boxes[kept])

    def test_naive_is_hard_nms(self):
        boxes = random_boxes(80)[0]
        scores = torch.randperm(80) / 80 + 0.01  # no ties
        kept = ours.softnms(boxes, scores, torch.zeros(80, 5), 0.4, 0.5, 1e-3, 0, 0)
        assert torch.equal(kept, ours.nms(boxes, scores, 0.4, 0))

    @pytest.mark.parametrize('offset', [0, 1])
    @pytest.mark.parametrize('method', [0, 1, 2])
    def test_equals_compiled(self, compiled, method, offset):
        boxes = random_boxes(200)[0]
        scores = torch.rand(200)
        results = []
        for ext in (ours, compiled):
            dets = torch.zeros(200, 5)
            kept = ext.softnms(boxes, scores, dets, 0.3, 0.5, 0.05, method, offset)
            results.append((kept, dets[: len(kept)]))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.allclose(results[0][1], results[1][1], rtol=1e-5)


class TestNMSMatch:
    @staticmethod
    def dets(n: int) -> Tensor:
        return torch.cat([random_boxes(n)[0].round(), (torch.randperm(n) / (n + 1))[:, None]], 1)

    @pytest.mark.parametrize('threshold', [0.1, 0.5, 0.7])
    def test_definition(self, threshold):
        """Each box not yet taken, best first, takes those that it overlaps by the threshold or more."""
        dets = self.dets(300)
        b, order, groups = dets.numpy(), dets[:, 4].argsort(descending=True).tolist(), []
        while order:
            i, *rest = order
            area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
            group = [i]
            for j in rest:
                w = max(min(b[i, 2], b[j, 2]) - max(b[i, 0], b[j, 0]), np.float32(0))
                h = max(min(b[i, 3], b[j, 3]) - max(b[i, 1], b[j, 1]), np.float32(0))
                if w * h / (area[i] + area[j] - w * h) >= np.float32(threshold):
                    group.append(j)
            groups.append(group)
            order = [j for j in order if j not in group]
        assert ours.nms_match(dets, threshold) == groups
        assert max(map(len, groups)) > 1 and len(groups) > 1

    def test_overlap_equal_to_the_threshold_is_suppressed(self):
        dets = torch.tensor([[0, 0, 10, 5.5, 0.9], [0, 4.5, 10, 10, 0.8]])  # overlap 10 of 100
        assert ours.nms_match(dets, 0.1) == [[0, 1]] and ours.nms_match(dets, 0.11) == [[0], [1]]

    def test_empty_boxes_stand_alone(self):
        assert ours.nms_match(torch.tensor([[5.0, 5, 5, 5, 0.2], [5, 5, 5, 5, 0.9]]), 0.5) == [[1], [0]]

    def test_through_mmcv(self):
        for dets in (self.dets(30), self.dets(30).double().numpy()):
            groups = mmcv_ops.nms_match(dets, 0.3)
            assert sorted(int(i) for group in groups for i in group) == list(range(30))

    def test_equals_compiled(self, compiled):
        for n in (1, 50, 500):
            dets = self.dets(n)
            assert ours.nms_match(dets, 0.5) == compiled.nms_match(dets, iou_threshold=0.5)


class TestRoIAlign:
    @staticmethod
    def gradient(ext, maps, rois, sizes, grad):
        out = maps.new_zeros(len(rois), maps.shape[1], sizes['aligned_height'], sizes['aligned_width'])
        back, empty = torch.zeros_like(maps), maps.new_zeros(0)
        ext.roi_align_forward(maps, rois, out, empty, empty, **sizes)
        ext.roi_align_backward(grad, rois, empty, empty, back, **sizes)
        return out, back

    def test_ramp(self):
        """The mean of a linear function over a bin is its value in the bin's middle."""
        y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing='ij')
        maps = torch.stack([y, x])[None]
        out = mmcv_ops.roi_align(maps, torch.tensor([[0.0, 4, 6, 12, 16]]), (5, 4), 1.0, 0, 'avg', True)[0]
        # Pixel i covers [i, i + 1], so a coordinate c lies at index c - 0.5.
        assert torch.allclose(out[0], (6 + 2 * (torch.arange(5) + 0.5) - 0.5)[:, None].expand(5, 4))
        assert torch.allclose(out[1], (4 + 2 * (torch.arange(4) + 0.5) - 0.5)[None].expand(5, 4))

    @pytest.mark.parametrize('aligned', [True, False])
    def test_gradient(self, aligned):
        maps = torch.rand(2, 2, 9, 8, dtype=torch.float64, requires_grad=True)
        rois = torch.tensor([[0, 1.0, 1, 20, 14], [1, 5, 2, 9, 30]], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda m: mmcv_ops.roi_align(m, rois, (3, 2), 0.25, 2, 'avg', aligned), maps)

    @pytest.mark.parametrize('channels', [3, 16])
    def test_bfloat16(self, channels):
        maps, rois = torch.rand(1, channels, 16, 16).bfloat16(), random_rois(4, 1).bfloat16()
        sizes = dict(aligned_height=3, aligned_width=3, spatial_scale=0.25, sampling_ratio=2, pool_mode=1, aligned=True)
        low = self.gradient(ours, maps, rois, sizes, torch.ones(4, channels, 3, 3).bfloat16())
        full = self.gradient(ours, maps.float(), rois.float(), sizes, torch.ones(4, channels, 3, 3))
        assert low[0].dtype == low[1].dtype == torch.bfloat16
        for a, b in zip(low, full, strict=True):
            assert torch.equal(a, b.bfloat16())

    @pytest.mark.parametrize('ratio', [0, 1, 3])
    @pytest.mark.parametrize('aligned', [True, False])
    @pytest.mark.parametrize('at_once', [1 << 21, 900])
    def test_equals_torchvision(self, monkeypatch, ratio, aligned, at_once):
        """Also with regions outside of the map and larger than it, none at all, and part by part."""
        monkeypatch.setattr(roi_align, 'AT_ONCE', at_once)
        torch.manual_seed(0)
        maps = torch.randn(2, 16, 13, 9, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
        corners = torch.rand(60, 4, dtype=torch.float64) * 120 - 40
        if not ratio:  # torchvision cannot count the samples of a region that is turned inside out
            corners = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:].abs()], dim=1)
        rois = torch.cat([torch.arange(60)[:, None] % 2, corners], dim=1)
        sizes = dict(aligned_height=3, aligned_width=2, spatial_scale=0.25, sampling_ratio=ratio, pool_mode=1)
        for regions in (rois, rois[:1], rois[:0]):
            grad = torch.randn(len(regions), 16, 3, 2, dtype=torch.float64)
            out, back = self.gradient(ours, maps, regions, dict(sizes, aligned=aligned), grad)
            given = maps.clone().requires_grad_()
            reference = torchvision.ops.roi_align(given.contiguous(), regions, (3, 2), 0.25, ratio, aligned)
            reference.backward(grad)
            assert torch.allclose(out, reference, atol=1e-12) and torch.allclose(back, given.grad, atol=1e-12)
            assert len(regions) < 60 or out.abs().max() > 0.1

    def test_gradient_of_maps_with_many_channels(self):
        maps = torch.rand(2, 16, 5, 4, dtype=torch.float64, requires_grad=True)
        rois = torch.tensor([[0, 1.0, 1, 12, 14], [1, 5, 2, 9, 30]], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda m: mmcv_ops.roi_align(m, rois, (3, 2), 0.25, 0, 'avg', True), maps)

    def test_corners_that_are_not_finite(self):
        """They come from a training that has diverged, and must neither crash here nor exhaust the memory."""
        rois = torch.tensor([[0, float('nan'), 0, 8, 8], [0, 0, 0, float('inf'), 8], [0, 0, 0, 8, 8]])
        out = mmcv_ops.roi_align(torch.ones(1, 16, 4, 4), rois, (2, 2), 0.5, 0, 'avg', True)
        assert out.mean((1, 2, 3)).tolist() == [1, 0, 1]  # they count as 0: the second region has no width

    def test_in_a_graph(self):
        """Where sizes are not known, torchvision's operation takes part."""

        class Pool(torch.nn.Module):
            def forward(self, maps, rois):
                return mmcv_ops.roi_align(maps, rois, (3, 2), 0.25, 0, 'avg', True)

        given = torch.rand(1, 16, 9, 8), torch.tensor([[0, 1.0, 1, 12, 14], [0, 5, 2, 9, 30]])
        out = torch.export.export(Pool(), given, strict=False).module()(*given)
        assert torch.allclose(out, Pool()(*given), atol=1e-6)

    def test_max_pooling_is_refused(self):
        with pytest.raises(NotImplementedError, match='roi_align with pool_mode="max".*setup-compiled'):
            sizes = dict(spatial_scale=1.0, sampling_ratio=0, pool_mode=0, aligned=True)
            ours.roi_align_forward(*[torch.zeros(1)] * 5, aligned_height=1, aligned_width=1, **sizes)

    @pytest.mark.parametrize('ratio', [0, 2])
    @pytest.mark.parametrize('aligned', [True, False])
    def test_equals_compiled(self, compiled, ratio, aligned):
        sizes = dict(aligned_height=7, aligned_width=7, spatial_scale=0.25, sampling_ratio=ratio, pool_mode=1)
        for channels in (8, 16):
            maps, rois = torch.randn(2, channels, 30, 25), random_rois(60, 2) * 2
            rois[:, 0] /= 2
            given = maps, rois, dict(sizes, aligned=aligned), torch.randn(60, channels, 7, 7)
            for a, b in zip(self.gradient(ours, *given), self.gradient(compiled, *given), strict=True):
                assert torch.allclose(a, b, atol=1e-5)


class TestFocalLoss:
    """mmcv compiles these for GPUs only, so torchvision's loss and autograd are the reference."""

    def test_sigmoid(self):
        logits = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
        target = torch.randint(6, (12,))  # 5 is the background
        one_hot = F.one_hot(target, 6)[:, :5].double()
        for weight in (None, torch.tensor([1.0, 2, 3, 4, 5, 6]).double()):
            expected = torchvision.ops.sigmoid_focal_loss(logits, one_hot, alpha=0.3, gamma=1.5, reduction='none')
            if weight is not None:
                expected = expected * weight[target][:, None]
            empty = logits.new_empty(0)
            loss, grad = torch.zeros_like(logits), torch.zeros_like(logits)
            args = (logits.detach(), target, empty if weight is None else weight)
            ours.sigmoid_focal_loss_forward(*args, loss, gamma=1.5, alpha=0.3)
            ours.sigmoid_focal_loss_backward(*args, grad, gamma=1.5, alpha=0.3)
            assert torch.allclose(loss, expected)
            assert torch.allclose(grad, torch.autograd.grad(expected.sum(), logits)[0])

    def test_softmax(self):
        logits = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
        target = torch.randint(5, (12,))
        ignored = torch.arange(12) >= 10
        p = logits.softmax(1)
        picked = p[torch.arange(12), target]
        expected = -0.3 * (1 - picked) ** 1.5 * picked.log()
        expected = torch.where(ignored, 0, expected)
        target = torch.where(ignored, -1, target)
        args, loss, grad = (p.detach(), target, p.new_empty(0)), torch.zeros(12).double(), torch.zeros_like(p)
        ours.softmax_focal_loss_forward(*args, loss, gamma=1.5, alpha=0.3)
        ours.softmax_focal_loss_backward(*args, torch.zeros(12).double(), grad, gamma=1.5, alpha=0.3)
        assert torch.allclose(loss, expected)
        assert torch.allclose(grad, torch.autograd.grad(expected.sum(), logits)[0])

    def test_saturated_logits_are_finite(self):
        logits, target = torch.tensor([[200.0, -200.0]]), torch.tensor([1])
        loss, grad = torch.zeros(1, 2), torch.zeros(1, 2)
        ours.sigmoid_focal_loss_forward(logits, target, torch.empty(0), loss, 2.0, 0.25)
        ours.sigmoid_focal_loss_backward(logits, target, torch.empty(0), grad, 2.0, 0.25)
        assert loss.isfinite().all() and grad.isfinite().all()


class TestDeformConv:
    GEOMETRY = dict(stride=(2, 1), padding=(1, 2), dilation=(1, 2))

    def inputs(self, modulated: bool, dtype=torch.float64) -> list[Tensor]:
        x, weight = torch.randn(2, 4, 7, 6, dtype=dtype), torch.randn(6, 2, 3, 3, dtype=dtype)  # two groups
        offset = torch.randn(2, 2 * 18, 4, 6, dtype=dtype)  # two offset groups
        mask = [torch.rand(2, 2 * 9, 4, 6, dtype=dtype)] if modulated else []
        bias = [torch.randn(6, dtype=dtype)] if modulated else []
        return [t.requires_grad_() for t in (x, offset, *mask, weight, *bias)]

    def apply(self, *tensors: Tensor) -> Tensor:
        op = mmcv_ops.modulated_deform_conv2d if len(tensors) == 5 else mmcv_ops.deform_conv2d
        return op(*tensors, *self.GEOMETRY.values(), 2, 2)

    @pytest.mark.parametrize('modulated', [True, False])
    def test_without_offsets_it_is_a_convolution(self, modulated):
        tensors = self.inputs(modulated)
        tensors[1] = torch.zeros_like(tensors[1])
        if modulated:
            tensors[2] = torch.ones_like(tensors[2])
        x, weight, bias = tensors[0], tensors[3 if modulated else 2], tensors[4] if modulated else None
        assert torch.allclose(self.apply(*tensors), F.conv2d(x, weight, bias, groups=2, **self.GEOMETRY))

    @pytest.mark.parametrize('modulated', [True, False])
    def test_gradient(self, modulated):
        assert torch.autograd.gradcheck(self.apply, self.inputs(modulated), fast_mode=True)

    def test_without_bias(self):
        x, offset, mask, weight, bias = self.inputs(True)
        out = self.apply(x, offset, mask, weight, None)
        assert torch.allclose(out + bias.detach()[:, None, None], self.apply(x, offset, mask, weight, bias))
        assert all(g is not None for g in torch.autograd.grad(out.sum(), (x, offset, mask, weight)))

    def larger(self, dtype=torch.float64) -> list[Tensor]:
        """Offset and mask of 6x7 for an output of 4x6."""
        x, offset, mask, weight, bias = self.inputs(True, dtype)
        offset, mask = (torch.randn(2, t.shape[1], 6, 7, dtype=dtype).requires_grad_() for t in (offset, mask))
        return [x, offset, mask, weight, bias]

    def test_offsets_larger_than_the_output(self):
        """The kernel walks through an image's offsets as if their maps had the output's size."""
        x, offset, mask, weight, bias = self.larger()
        fitted = []
        for t in (offset, mask):
            flat, small = t.detach().reshape(2, -1), torch.empty(2, t.shape[1], 4, 6, dtype=t.dtype)
            for b, c, h, w in np.ndindex(*small.shape):
                small[b, c, h, w] = flat[b, (c * 4 + h) * 6 + w]
            fitted.append(small)
        assert torch.equal(self.apply(x, offset, mask, weight, bias), self.apply(x, *fitted, weight, bias))
        assert torch.autograd.gradcheck(self.apply, self.larger(), fast_mode=True)

    def test_offsets_smaller_than_the_output(self):
        x, offset, mask, weight, bias = self.inputs(True)
        with pytest.raises(InputError, match=r'offsets of \(3, 6\) for an output of \(4, 6\)'):
            self.apply(x, offset[:, :, :3], mask, weight, bias)

    @pytest.mark.parametrize('modulated', [True, False, 'larger offsets'])
    def test_equals_compiled(self, compiled, modulated, monkeypatch):
        tensors = self.larger(torch.float32) if modulated == 'larger offsets' else self.inputs(modulated, torch.float32)
        modulated, results = bool(modulated), []
        module = importlib.import_module(f'mmcv.ops.{"modulated_" * modulated}deform_conv')
        for ext in (ours, compiled):
            monkeypatch.setattr(module, 'ext_module', ext)
            out = self.apply(*tensors)
            results.append([out, *torch.autograd.grad((out * out.detach()).sum(), tensors)])
        for a, b in zip(*results, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


class TestDeformAttention:
    SHAPES = torch.tensor([[6, 5], [3, 2]])
    STARTS = torch.tensor([0, 30])

    def inputs(self) -> list[Tensor]:
        value = torch.randn(2, 36, 2, 4, dtype=torch.float64)
        locations = torch.rand(2, 3, 2, 2, 3, 2, dtype=torch.float64) * 1.2 - 0.1  # some outside
        weights = torch.rand(2, 3, 2, 2, 3, dtype=torch.float64)
        return [t.requires_grad_() for t in (value, locations, weights)]

    def apply(self, value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        function = mmcv_ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
        return function.apply(value, self.SHAPES, self.STARTS, locations, weights, 64)

    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch):
        monkeypatch.setattr(mmcv_ops.multi_scale_deform_attn, 'ext_module', ours)

    def test_equals_mmcv_on_cpu(self):
        value, locations, weights = self.inputs()
        reference = mmcv_ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch
        assert torch.allclose(self.apply(value, locations, weights), reference(value, self.SHAPES, locations, weights))

    def test_gradient(self):
        assert torch.autograd.gradcheck(self.apply, self.inputs())

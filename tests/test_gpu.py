"""On a GPU: outputs against the CPU's in fp32, in every dtype, layout and mode.

``XVIT_DET_TEST_DEVICE=cpu`` rehearses the tests where there is no GPU.
"""

import copy
import os
import warnings

import pytest
import torch
from torch import Tensor, nn

from xvit_det import create_model
from xvit_det.benchmark.models import build
from xvit_det.benchmark.steps import compiler_problem

NAMES = ('xvit_t', 'vit_s', 'vip_s', 'vil_s', 'vin_s', 'fnet_s', 'hybrid_vin_s', 'ccn_14', 'cvn_13')
every_backbone = pytest.mark.parametrize('name', NAMES)
DTYPES = [torch.bfloat16, torch.float16]
SIZE = (224, 256)


@pytest.fixture(scope='module')
def device() -> str:
    name = os.environ.get('XVIT_DET_TEST_DEVICE', 'cuda')
    if name == 'cuda' and not torch.cuda.is_available():
        pytest.skip('this machine has no GPU; XVIT_DET_TEST_DEVICE=cpu rehearses the test')
    return name


@pytest.fixture(autouse=True)
def exact_products():
    """Without TF32, which PyTorch allows in convolutions."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, SIZE).eval()


def assert_close(outputs, expected, tolerance: float) -> None:
    """Compare by the mean error, which a single rounding does not decide."""
    for out, reference in zip(outputs, expected, strict=True):
        out = out.float().cpu()
        assert out.shape == reference.shape and out.isfinite().all()
        assert (out - reference).abs().mean() <= tolerance * reference.abs().mean()


@every_backbone
@torch.no_grad()
def test_float32_equals_the_cpu(name, device, images):
    model = make(name)
    expected = model(images)
    assert_close(model.to(device)(images.to(device)), expected, 1e-4)


@every_backbone
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@torch.no_grad()
def test_autocast_and_half_precision_weights(name, dtype, device, images):
    model = make(name)
    expected = model(images)
    model, images = model.to(device), images.to(device)
    with torch.autocast(device, dtype):
        assert_close(model(images), expected, 0.05)
    assert_close(model.to(dtype)(images.to(dtype)), expected, 0.05)


@every_backbone
@torch.no_grad()
def test_channels_last(name, device, images):
    model = make(name)
    expected = model(images)
    model = model.to(device, memory_format=torch.channels_last)
    assert_close(model(images.to(device, memory_format=torch.channels_last)), expected, 1e-4)


@every_backbone
@torch.no_grad()
def test_fused(name, device, images):
    model = make(name)
    expected = model(images)
    assert_close(model.fuse().to(device)(images.to(device)), expected, 1e-4)


@pytest.mark.usefixtures('fresh_compiler')
@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@torch.no_grad()
def test_compiled_by_inductor(fused, device, images):
    if problem := compiler_problem(device):
        pytest.skip(problem)
    model = make('xvit_t')
    expected = model(images)
    model = (model.fuse() if fused else model).to(device)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert_close(torch.compile(model, fullgraph=True)(images.to(device)), expected, 1e-4)


@torch.no_grad()
def test_fusing_leaves_fewer_kernels(device, images):
    if device == 'cpu':
        pytest.skip('kernels are counted on a GPU; tests/test_deploy counts operations on the CPU')
    images = images.to(device)
    counts = []
    for model in (make('xvit_t').to(device), make('xvit_t').fuse().to(device)):
        model(images)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            model(images)
        counts.append(sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiler.events()))
    assert 0 < counts[1] < counts[0]


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('name', ['xvit_t', 'vip_s', 'vin_s'])
def test_a_training_step_under_autocast_at_detection_size(name, dtype, device):
    size = (128, 160) if device == 'cpu' else (800, 1333)
    torch.manual_seed(0)
    model = build(name, size).to(device).train()
    with torch.autocast(device, dtype):
        loss = sum(out.float().square().mean() for out in model(torch.randn(1, 3, *size, device=device)))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_mask_rcnn(device):
    from mmdet.testing import demo_mm_inputs

    torch.manual_seed(0)
    detector = create_model('mask_rcnn_xvit_t_3x')
    inputs = demo_mm_inputs(1, [(3, 128, 160)], with_mask=True, num_classes=80)
    results, maps = [], []
    for model, where in ((detector, 'cpu'), (copy.deepcopy(detector).to(device), device)):
        data = model.data_preprocessor(copy.deepcopy(inputs), training=False)
        assert data['inputs'].device.type == where
        losses = model.loss(data['inputs'], data['data_samples'])
        maps.append([out.detach() for out in model.extract_feat(data['inputs'])])
        results.append({name: float(sum(loss) if isinstance(loss, list) else loss) for name, loss in losses.items()})
        (prediction,) = model.predict(data['inputs'], data['data_samples'])
        assert prediction.pred_instances.bboxes.isfinite().all()
    assert_close(maps[1], maps[0], 1e-3)
    # Which proposals the heads sample is random, and the generators differ: their losses cannot be compared.
    assert all(torch.tensor(list(losses.values())).isfinite().all() for losses in results)

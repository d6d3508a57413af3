"""What can be known of the kernels without a GPU: their results in Triton's interpreter, and that they compile."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xvit_det import XViT, kernels

pytest.importorskip('triton', reason='Triton is not installed (`pip install triton`, on Linux)')

ARCH = dict(embed_dims=32, depth=1, attn_dims=24, num_heads=2, mlp_ratio=2, num_class_layers=1, layer_scale=1.0)


def python(*args, **environment):
    known = {key: value for key, value in os.environ.items() if key not in ('TRITON_INTERPRET', 'XVIT_DET_TRITON')}
    return subprocess.run([sys.executable, *args], env=known | environment, capture_output=True, text=True)


@pytest.mark.heavy
def test_in_the_interpreter():
    # In a process of its own: Triton is interpreted or compiled from its import on, for everyone.
    file = Path(__file__).with_name('test_against_pytorch.py')
    done = python('-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(file), TRITON_INTERPRET='1', XVIT_DET_TRITON='1')
    assert done.returncode == 0 and ' passed' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    'environment, expected',
    [({'XVIT_DET_TRITON': '1'}, 'False False'), ({'TRITON_INTERPRET': '1'}, 'False False')]
    + [({'TRITON_INTERPRET': '1', 'XVIT_DET_TRITON': '1'}, 'True True')],
    ids=['CPU', 'not switched on', 'interpreted'],
)
def test_triton_is_imported_only_where_it_is_used(environment, expected):
    # Other packages import Triton as they like.
    tried = "'xvit_det.kernels.trial' in sys.modules"
    code = f'import sys, torch, xvit_det; print(xvit_det.kernels.usable(torch.ones(1)), {tried})'
    done = python('-c', code, **environment)
    assert done.stdout.strip() == expected, done.stderr


def compile_for_gpu(kernel, constants, **types):
    """Down to the machine code of compute capability 8.0; what is neither named in types nor constant is an int."""
    import triton
    from triton.backends.compiler import GPUTarget

    names = kernel.arg_names
    signature = {name: 'constexpr' if name in constants else types.get(name, 'i32') for name in names}
    source = triton.compiler.ASTSource(kernel, signature, constants)
    return triton.compile(source, target=GPUTarget('cuda', 80, 32), options=dict(num_stages=2))


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('c, width, block, parts', [(16, 16, 128, 32), (24, 32, 128, 8), (64, 64, 64, 2)])
def test_xnorm_compiles(c, width, block, parts, dtype):
    from xvit_det.kernels import xnorm

    sizes = dict(H=2, C=c, WIDTH=width)
    product = dict(BLOCK=block, WIDEN=False)
    x = f'*{dtype}'
    compiled = [
        compile_for_gpu(xnorm._sum_kv, sizes | product | dict(MASKED=True), k=x, v=x, valid='*i1', sums='*fp32'),
        compile_for_gpu(
            xnorm._normalise_kv, sizes | dict(SCALED=True, AXIS=0, PARTS=parts), sums='*fp32', gamma='*fp32', kv=x
        ),
        compile_for_gpu(xnorm._apply_kv, sizes | product, q=x, kv=x, out=x),
    ]
    assert all(kernel.metadata.shared <= 99 * 1024 for kernel in compiled)  # bytes, what the smallest such GPU has


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('masked', [False, True])
def test_lpi_compiles(masked, dtype):
    from xvit_det.kernels import lpi

    vectors = ('weight1', 'bias1', 'scale', 'shift', 'weight2', 'bias2')
    sizes = dict(MASKED=masked, C=70, ROWS=8, COLUMNS=8, CHANNELS=64)
    tensors = dict(x=f'*{dtype}', out=f'*{dtype}', valid='*i1') | dict.fromkeys(vectors, '*fp32')
    assert compile_for_gpu(lpi._lpi, sizes, **tensors).metadata.shared <= 99 * 1024


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Take the CPU for a GPU, as far as the choice goes."""
    from xvit_det.kernels import support

    monkeypatch.setattr(kernels, 'SWITCHED_ON', True)
    monkeypatch.setattr(kernels, '_DEVICE', 'cpu')
    # What is tried out is all that needs a GPU: the compiler meets the choice as it is.
    monkeypatch.setattr('torch.cuda.get_device_capability', lambda gpu: (8, 0))
    monkeypatch.setattr('xvit_det.kernels.trial.run', lambda device: None)
    monkeypatch.setattr('torch.utils._triton.has_triton', lambda: True)
    support.try_out.cache_clear()
    yield
    support.try_out.cache_clear()


class Captured(Exception):
    """A graph was captured; it cannot run."""


@pytest.mark.usefixtures('fresh_compiler', 'pretended_gpu')
@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
@torch.no_grad()
def test_the_compiler_sees_one_graph_with_the_kernels(fused):
    model = XViT(arch=ARCH, out_type='featmap', mask_padding=True).eval()
    model = model.fuse() if fused else model

    def backend(module, inputs):
        names = [str(node.target) for node in module.graph.nodes]
        assert sum('triton_kernel_wrapper' in name for name in names) == 4
        raise Captured

    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=backend)
    with pytest.raises(Exception, match='Captured'):
        compiled(torch.randn(2, 3, 64, 80))


@pytest.mark.usefixtures('pretended_gpu')
def test_the_choice():
    x, weight = torch.ones(2), torch.ones(2, requires_grad=True)
    assert kernels.usable(x, None) and kernels.usable(x.half(), x.bfloat16())
    assert not kernels.usable(x, x.double()) and not kernels.usable(x, x.to('meta'))
    assert not kernels.usable(x, weight)
    with torch.no_grad():
        assert kernels.usable(x, weight)


def test_where_triton_does_not_work(monkeypatch):
    from xvit_det.kernels import support, trial

    def no_compiler(device):
        raise RuntimeError('Failed to find C compiler.\nmore')

    works = functools.partial(support.try_out.__wrapped__, -1)
    monkeypatch.setattr(kernels, 'INTERPRETED', True)
    monkeypatch.setattr(trial, 'run', lambda device: None)
    assert works()
    monkeypatch.setattr(trial, 'run', no_compiler)
    with pytest.warns(UserWarning, match='falling back to PyTorch: Failed to find C compiler.$'):
        assert not works()
    monkeypatch.setitem(sys.modules, 'xvit_det.kernels.trial', None)  # as where Triton is not installed
    assert not works()

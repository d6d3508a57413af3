"""Whole models as one file for other runtimes: ONNX, OpenVINO, or a program of ``torch.export``."""

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

import xvit_det
from xvit_det.backbones import Backbone
from xvit_det.deploy import infer
from xvit_det.deploy.graphs.models import GRAPHS
from xvit_det.deploy.preparation import input_steps
from xvit_det.errors import InputError
from xvit_det.mixers.base import TokenMixer
from xvit_det.mixers.nystrom import NystromAttention

if TYPE_CHECKING:
    from xvit_det.inference import Predictor

SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'torch': '.pt2'}
OLDEST_OPSET = 18
INPUTS = ('images', 'sizes', 'original_sizes', 'score')


def make_graph(model: nn.Module, takes_rgb: bool = False) -> nn.Module:
    """The module that is exported for a whole model: images in, predictions out.

    Raises:
        InputError: A model, or a part of one, that cannot be exported.
    """
    name = type(model).__name__
    if name not in GRAPHS:
        raise InputError(f'export knows {", ".join(sorted(GRAPHS))}, not {name}')
    return GRAPHS[name](model, takes_rgb).eval()


def export(model: 'Predictor', path: str | Path, opset: int = OLDEST_OPSET) -> dict[str, Any]:
    """Write a model with the preparation of its images, its heads and the names of its classes as one file.

    Batch and size of the images stay open, except for mixers that are made for one size. How the file is used:
    :mod:`xvit_det.deploy.infer`.

    Args:
        model: As :func:`xvit_det.load` gives it, on the CPU. Fuse it first to export the fused model.
        path: ``.onnx``; ``.xml`` for OpenVINO, which writes a ``.bin`` beside it; ``.pt2`` for ``torch.export``.
        opset: ONNX's version, at least 18.

    Returns:
        What the file says about itself.

    Raises:
        InputError: Another ending, an older opset, or a model that cannot be exported.
    """
    check_target(path, opset)
    graph: Any = make_graph(model.model, model.takes_rgb)
    about = describe(model, graph.outputs)
    least = max(graph.largest_stride + 1, _least_side(graph))
    traced = about if about['size'] else {**about, 'least': _round_up(least, about['multiple'])}
    program = trace(graph, traced)
    if Path(path).suffix == '.pt2':  # which insists on what held when it was traced; ONNX takes smaller images, too
        about = traced
    _save(program, Path(path), about, opset)
    return about


def export_backbone(backbone: Backbone, path: str | Path, opset: int = OLDEST_OPSET) -> dict[str, Any]:
    """Write a backbone alone: ``images``, normalised (B, C, H, W) in float32, to its outputs ``map_0``, ``map_1``, …

    Args, raises: as :func:`export`.
    """
    check_target(path, opset)
    side = max(33, _least_side(backbone))  # a side of one cell would become a constant
    fixed = fixed_size(backbone)
    height, width = fixed or (side + 65, side + 97)
    batch = torch.export.Dim('batch', min=1, max=1024)
    sides = {} if fixed else {2: _side('height', side, 1), 3: _side('width', side, 1)}
    example = torch.zeros(2, backbone.in_channels, height, width)
    with torch.no_grad(), quiet():
        program = _record(backbone.eval(), (example,), ({0: batch, **sides},))
        outputs = [f'map_{i}' for i in range(len(backbone(example)))]
    about = dict(format=1, version=xvit_det.__version__, task='features', inputs=['images'], outputs=outputs)
    _save(program, Path(path), about, opset)
    return about


def check_target(path: str | Path, opset: int) -> None:
    """Raise an ``InputError`` for a file of another format, or an opset that is too old."""
    if Path(path).suffix not in SUFFIXES.values():
        raise InputError(f'{path}: an exported file ends in {", ".join(SUFFIXES.values())}')
    if opset < OLDEST_OPSET:
        raise InputError(f'opset={opset}: the exported models need ONNX opset {OLDEST_OPSET} or newer')


def _save(program: torch.export.ExportedProgram, path: Path, about: dict[str, Any], opset: int) -> None:
    if path.suffix == '.pt2':
        return torch.export.save(program, path, extra_files={infer.KEY: json.dumps(about)})
    with quiet():
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            verbose=False,
            input_names=list(about['inputs']),
            output_names=list(about['outputs']),
        )
    assert onnx is not None
    onnx.model.metadata_props[infer.KEY] = json.dumps(about)
    for node in onnx.model.graph.all_nodes():  # stack traces: a seventh of the file, with this machine's paths
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    return onnx.save(path) if path.suffix == '.onnx' else save_openvino(onnx.model_proto, path)


def describe(model: 'Predictor', outputs: Sequence[str]) -> dict[str, Any]:
    """What a runtime has to know about a model: task, classes, how images are prepared, inputs and outputs."""
    preprocessor = model.model.data_preprocessor
    multiple = getattr(preprocessor, 'pad_size_divisor', None) or 1
    if test_cfg := getattr(preprocessor, 'test_cfg', None):
        multiple = test_cfg.get('size_divisor') or multiple
    count = {'detection': 4, 'segmentation': 3, 'classification': 1}[model.task]
    steps = input_steps(model.pipeline)
    return dict(
        format=1,
        version=xvit_det.__version__,
        task=model.task,
        classes=list(model.classes),
        steps=steps,
        multiple=multiple,
        least=multiple,
        size=prepared_size(steps) if model.task == 'classification' else fixed_size(model.model),
        inputs=INPUTS[:count],
        outputs=list(outputs),
    )


def prepared_size(steps: list[dict[str, Any]]) -> list[int] | None:
    """Height and width to which the steps of a test pipeline bring every image, if they do."""
    sizes = {infer.prepare(Image.new('RGB', size), steps).shape[:2] for size in ((640, 480), (480, 640))}
    return list(sizes.pop()) if len(sizes) == 1 else None


def fixed_size(model: nn.Module) -> list[int] | None:
    """Height and width of the only images that a model takes, if one of its mixers is made for them."""
    for module in model.modules():
        mixers = (
            [part for part in module.modules() if isinstance(part, TokenMixer)] if isinstance(module, Backbone) else ()
        )
        if any(not mixer.any_grid for mixer in mixers):
            height, width = module.img_size  # type: ignore[misc]
            return [height, width]
    return None


def trace(graph: nn.Module, about: dict[str, Any]) -> torch.export.ExportedProgram:
    """Record what a model computes, with batch and size of the images left open where they can be."""
    multiple, least, fixed = about['multiple'], about['least'], about['size']
    # Different sides, so that nothing fits by chance.
    height, width = fixed or [_round_up(least + side, multiple) for side in (65, 97)]
    sizes = torch.tensor([[height, width], [height - 3, width - 5]])
    examples = (torch.zeros(2, height, width, 3, dtype=torch.uint8), sizes, 2 * sizes, torch.tensor(0.0))
    batch = torch.export.Dim('batch', min=1, max=1024)
    image = {0: batch} if fixed else {0: batch, 1: _side('height', least, multiple), 2: _side('width', least, multiple)}
    dynamic: tuple[dict, ...] = (image, {0: batch}, {0: batch}, {})
    count = len(about['inputs'])
    with torch.no_grad(), quiet():
        return _record(graph, examples[:count], dynamic[:count])


def _record(module: nn.Module, examples: tuple[Tensor, ...], dynamic: tuple[dict, ...]) -> torch.export.ExportedProgram:
    """Record what a module computes of images, its first input, and try it with other batches, of odd and even sides.

    What the exporter cannot prove about sizes it checks when the program runs, and ONNX does not check at all. So what
    holds for the examples only, such as a size that became a constant, has to be found here.

    Raises:
        InputError: It does not hold for other sizes.
    """
    program = torch.export.export(
        module, examples, dynamic_shapes=dynamic, strict=False, prefer_deferred_runtime_asserts_over_guards=True
    )
    run = program.module()
    steps = {axis: _multiple(dim) for axis, dim in dynamic[0].items() if axis}
    for more in (1, 2, 3) if steps else ():
        x = examples[0][:1]
        for axis, step in steps.items():
            x = torch.cat((x, x.narrow(axis, 0, more * step)), dim=axis)
        try:
            run(x, *(value[:1] if value.ndim else value for value in examples[1:]))
        except (AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f'{type(module).__name__} cannot be exported for all sizes of images: {reason}') from error
    return program


def _multiple(dim: Any) -> int:
    return getattr(dim, 'fn', lambda n: n)(1)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _least_side(model: nn.Module) -> int:
    """The shortest side in pixels for which the mixers of every stage have enough tokens."""
    landmarks = max((m.landmarks for m in model.modules() if isinstance(m, NystromAttention)), default=0)
    backbones: list[Any] = [module for module in model.modules() if isinstance(module, Backbone)]
    strides = [backbone.patch_size * 2 ** max(getattr(backbone, 'stage_of', [0])) for backbone in backbones]
    return max(strides, default=1) * math.isqrt(landmarks)


def _side(name: str, least: int, multiple: int) -> Any:
    dim = torch.export.Dim(f'_{name}' if multiple > 1 else name, min=-(-least // multiple), max=2**15 // multiple)
    return multiple * dim if multiple > 1 else dim


def save_openvino(proto: Any, path: Path) -> None:
    """Convert an exported ONNX model and save it as OpenVINO's two files.

    Args:
        proto: An ``onnx.ModelProto`` with what :func:`export` says in its metadata.
        path: ``.xml``; the weights stand beside it in ``.bin``.

    Raises:
        InputError: The package is not installed.
    """
    try:
        import openvino
    except ModuleNotFoundError:
        raise InputError('export to OpenVINO needs the package openvino: pip install openvino') from None
    model = openvino.convert_model(io.BytesIO(proto.SerializeToString()))
    model.set_rt_info(next(entry.value for entry in proto.metadata_props if entry.key == infer.KEY), infer.KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def to_openvino(path: Path, target: Path) -> None:
    """Convert an exported ONNX file; see :func:`save_openvino`."""
    import onnx

    save_openvino(onnx.load(path), target)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what exporters and quantizers say to their developers."""
    loggers = [logging.getLogger(name) for name in ('root', 'torch.onnx', 'onnxscript', 'onnx_ir', 'torch.export')]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Smaller ONNX files: the products with weights in float16 or in INT8, everything else in float32.

Norms, softmax, attention's products of tokens with tokens (``kᵀ v`` and what follows), residual sums, and boxes keep
float32. They are a small part of the time and of the file, and the ones that overflow or lose precision.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from xvit_det.errors import InputError

PRODUCTS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


def weight_products(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that multiply with weights."""
    weights = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    chosen = [node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in weights]
    # The fused attention's product with its matrices, one for each head, has no kernel in INT8.
    return [node.name for node in chosen if node.op_type != 'MatMul' or weights[node.input[1]] == 2]


def to_half(path: str | Path, target: str | Path) -> None:
    """Write a copy of an ONNX file with weights and their products in float16.

    Args:
        path, target: Files; the same one is replaced.
    """
    model = onnx.load(path)
    graph, products = model.graph, {*weight_products(model)}
    halves = {name for node in graph.node if node.name in products for name in node.input}
    halves -= {name for node in graph.node if node.name not in products for name in node.input}
    halves &= {tensor.name for tensor in graph.initializer}
    for tensor in graph.initializer:
        if tensor.name in halves:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    nodes, cast = [], onnx.helper.make_node
    for node in graph.node:
        if node.name not in products:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if name not in halves:
                node.input[i] = f'{node.name}_half_{i}'
                nodes.append(
                    cast('Cast', [name], [node.input[i]], f'{node.input[i]}_cast', to=onnx.TensorProto.FLOAT16)
                )
        (output,) = node.output
        node.output[0] = f'{output}_half'
        nodes.append(node)
        nodes.append(cast('Cast', [node.output[0]], [output], f'{output}_cast', to=onnx.TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # of the types before
    onnx.save(model, target)


def to_int8(path: str | Path, target: str | Path, batches: Sequence[dict[str, np.ndarray]]) -> None:
    """Write a copy of an ONNX file with weights and their products in INT8 (QDQ format).

    Args:
        path, target: Files; the same one is replaced.
        batches: Inputs of the model, from which the ranges of activations are measured.

    Raises:
        InputError: No inputs are given.
    """
    if not batches:
        raise InputError('INT8 needs images to measure the ranges of activations')
    names = weight_products(onnx.load(path))
    quantize_static(
        path,
        target,
        _Reader(batches),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=names,
        extra_options=dict(ActivationSymmetric=False, WeightSymmetric=True, CalibMovingAverage=False),
    )
    _copy_metadata(path, target)


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[dict[str, np.ndarray]]) -> None:
        self.rest: Iterator[dict[str, Any]] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rest, None)


def _copy_metadata(path: str | Path, target: str | Path) -> None:
    """The quantizer drops what a file says about itself."""
    model, source = onnx.load(target), onnx.load(path, load_external_data=False)
    if not model.metadata_props:
        model.metadata_props.extend(source.metadata_props)
        onnx.save(model, target)

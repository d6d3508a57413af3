"""Smaller ONNX files: the products with weights in float16 or in INT8, everything else in float32.

Norms, softmax, attention's products of tokens with tokens (``kᵀ v`` and what follows), residual sums, and boxes keep
float32. They are a small part of the time and of the file, and the ones that overflow or lose precision.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from xvit_det.deploy.export import quiet
from xvit_det.errors import InputError

PRODUCTS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')


def weight_products(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The nodes that multiply with weights, by name."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {node.name: node for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in weights}


def to_half(path: str | Path, target: str | Path) -> None:
    """Write a copy of an ONNX file with weights and their products in float16.

    Args:
        path, target: Files; the same one is replaced.
    """
    model = onnx.load(path)
    _split_sums(model.graph)
    graph, products = model.graph, weight_products(model)
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


def to_int8(
    path: str | Path,
    target: str | Path,
    batches: Sequence[dict[str, np.ndarray]],
    choose: Callable[[str], bool] = lambda weight: True,
) -> None:
    """Write a copy of an ONNX file with weights and their products in INT8 (QDQ format).

    Products that are slower in INT8 or have no such kernel keep float32, with weights that are stored in float16.

    Args:
        path, target: Files; the same one is replaced.
        batches: Inputs of the model, from which the ranges of activations are measured.
        choose: Whether the weight of this name is to be in INT8.

    Raises:
        InputError: No inputs are given.
    """
    if not batches:
        raise InputError('INT8 needs images to measure the ranges of activations')
    model = onnx.load(path)
    _split_sums(model.graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen = [
        name
        for name, node in weight_products(model).items()
        if _gains_in_int8(node, weights[node.input[1]]) and choose(node.input[1])
    ]
    with quiet():
        quantize_static(
            model,
            target,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
        )
    model = onnx.load(target)
    _store_half(model)
    onnx.save(model, target)


def _gains_in_int8(node: onnx.NodeProto, weight: onnx.TensorProto) -> bool:
    """Not transposed and depthwise convolutions, nor the fused attention's product with one matrix for each head."""
    if node.op_type == 'Conv':
        return weight.dims[1] > 1
    return node.op_type != 'ConvTranspose' and len(weight.dims) == 2


def _split_sums(graph: onnx.GraphProto) -> None:
    """Make a product and a sum of each ``Gemm`` that adds a residual: it keeps float32, and INT8 has no such kernel."""
    constants = {tensor.name for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        is_sum = node.op_type == 'Gemm' and len(node.input) == 3 and node.input[2] not in constants
        if is_sum and settings == dict(alpha=1.0, beta=1.0, transA=0, transB=0):
            a, b, residual = node.input
            product = f'{node.output[0]}_product'
            nodes.append(onnx.helper.make_node('MatMul', [a, b], [product], node.name))
            nodes.append(onnx.helper.make_node('Add', [product, residual], list(node.output), f'{node.name}_sum'))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _store_half(model: onnx.ModelProto) -> None:
    """Store the weights of products that are still in float32 in float16; runtimes convert them when they load."""
    names = {node.input[1] for node in weight_products(model).values()}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in names and tensor.data_type == onnx.TensorProto.FLOAT:
            half = f'{tensor.name}_half'
            casts.append(
                onnx.helper.make_node('Cast', [half], [tensor.name], f'{half}_cast', to=onnx.TensorProto.FLOAT)
            )
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), half))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Sequence[dict[str, np.ndarray]]) -> None:
        self.rest: Iterator[dict[str, Any]] = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rest, None)

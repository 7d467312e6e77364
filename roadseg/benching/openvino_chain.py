"""The chain of matrix products as an OpenVINO model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
from openvino import opset13 as ops

Matrix = npt.NDArray[np.float32]


def chain_model(x: Matrix, weights: Sequence[Matrix], int8: bool) -> openvino.Model:
    """The product x W1 W2 ... as a model of x.

    Args:
        x: what it will be run on; in int8 its range, and those of the products, are what activations are rounded in.
        weights: the W.
        int8: whether every product has 8-bit operands, as quantised networks do.
    """
    parameter = ops.parameter(list(x.shape), np.float32, name="x")
    node: Any = parameter
    reach = float(np.abs(x).max())
    for weight in weights:
        if int8:
            node = _rounded(node, reach)
            reach = 4 * float(x.std())  # products vary as x does, and are normally distributed
        node = ops.matmul(node, _eight_bits(weight) if int8 else ops.constant(weight), False, False)
    return openvino.Model([ops.result(node)], [parameter], "chain")


def _rounded(node: Any, reach: float) -> Any:
    """Activations in 256 steps between -reach and reach."""
    low, high = ops.constant(np.float32(-reach * 128 / 127)), ops.constant(np.float32(reach))
    return ops.fake_quantize(node, low, high, low, high, 256)


def _eight_bits(weight: Matrix) -> Any:
    """Weights as int8 with one scale for all, which the runtime undoes after the product."""
    scale = np.float32(np.abs(weight).max() / 127)
    stored = ops.constant(np.round(weight / scale).astype(np.int8))
    return ops.multiply(ops.convert(stored, np.float32), ops.constant(scale))

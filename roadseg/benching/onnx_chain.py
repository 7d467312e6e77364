"""The chain of matrix products as an ONNX model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Matrix = npt.NDArray[np.float32]
_OPSET = 21


def chain_bytes(x: Matrix, weights: Sequence[Matrix], precision: str) -> bytes:
    """The product x W1 W2 ... as a serialised model from `x` to `product`, both float32.

    Args:
        x: what it will be run on; in int8 its range, and those of the products, are what activations are rounded in.
        weights: the W.
        precision: "f32", "f16" or "int8".
    """
    graph = _Graph()
    node = graph.add("Cast", ["x"], to=TensorProto.FLOAT16) if precision == "f16" else "x"
    reach = float(np.abs(x).max())
    stored = np.float16 if precision == "f16" else np.float32
    for weight in weights:
        if precision == "int8":
            node = graph.rounded(node, reach)
            reach = 4 * float(x.std())  # products vary as x does, and are normally distributed
            node = graph.add("MatMul", [node, graph.eight_bits(weight)])
        else:
            node = graph.add("MatMul", [node, graph.hold(weight.astype(stored))])
    graph.add("Cast", [node], "product", to=TensorProto.FLOAT)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(x.shape)) for name in ("x", "product")]
    made = helper.make_graph(graph.nodes, "chain", ends[:1], ends[1:], graph.held)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 10  # what goes with the opset: runtimes may not know this package's newest
    onnx.checker.check_model(model)
    return model.SerializeToString()


class _Graph:
    """Nodes and constants, named in the order in which they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def hold(self, value: npt.NDArray[Any]) -> str:
        name = f"held_{len(self.held)}"
        self.held.append(numpy_helper.from_array(value, name))
        return name

    def rounded(self, node: str, reach: float) -> str:
        """Activations in 256 steps between -reach and reach, and back: runtimes fuse that with the product."""
        parameters = [self.hold(np.asarray(np.float32(reach / 127))), self.hold(np.asarray(np.uint8(128)))]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [node, *parameters]), *parameters])

    def eight_bits(self, weight: Matrix) -> str:
        scale = np.float32(np.abs(weight).max() / 127)
        parameters = [self.hold(np.asarray(scale)), self.hold(np.asarray(np.int8(0)))]
        return self.add("DequantizeLinear", [self.hold(np.round(weight / scale).astype(np.int8)), *parameters])

"""Writing ONNX graphs by hand: nodes and constants with names of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


class Nodes:
    """A list of nodes that grows, each with one output.

    Args:
        prefix: of all names, so that they differ from those of another graph's.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node.

        Args:
            operator: of the ONNX standard.
            inputs: names of values; "" where an optional one is left out.
            output: name of its output; None makes one.
            attributes: of the operator.

        Returns:
            The name of its output.
        """
        name = f"{self.prefix}/{len(self.nodes)}_{operator}"
        output = output or name
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike, name: str | None = None) -> str:
        """Add a constant.

        Args:
            values: any shape.
            dtype: its type.
            name: None makes one.

        Returns:
            Its name.
        """
        name = name or f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Add a constant int64 vector; see `constant`."""
        return self.constant(values, np.int64)

    def cast(self, value: str, kind: int) -> str:
        """Add a conversion to a type of `onnx.TensorProto`."""
        return self.add("Cast", value, to=kind)

    def name_value(self, value: str, name: str) -> None:
        """Give an output of these nodes, which none of them uses yet, another name."""
        next(node for node in reversed(self.nodes) if value in node.output).output[0] = name

    def branch(self, output: str) -> onnx.GraphProto:
        """These nodes as a branch of an If node; it sees the values of the graph around it."""
        info = onnx.ValueInfoProto(name=output)  # runtimes infer its type
        return helper.make_graph(self.nodes, self.prefix, [], [info], self.constants)


def one_of(nodes: Nodes, condition: str, yes: tuple[Nodes, str], no: tuple[Nodes, str]) -> str:
    """Add an If node of two branches, each with the name of its output; only the one that holds is computed."""
    return nodes.add("If", condition, then_branch=yes[0].branch(yes[1]), else_branch=no[0].branch(no[1]))


def if_wanted(
    nodes: Nodes, want: str | None, name: str, build: Callable[[Nodes], str], instead: npt.NDArray[Any]
) -> str:
    """Add what is computed only where it is wanted.

    Args:
        nodes: of the graph.
        want: a bool; None wants it always.
        name: of the part.
        build: adds the part to nodes and gives the name of its output.
        instead: the output where it is not wanted; floating values become float32.
    """
    if want is None:
        return build(nodes)
    part, otherwise = Nodes(name), Nodes(f"no_{name}")
    value = instead.astype(np.float32) if np.issubdtype(instead.dtype, np.floating) else instead
    nothing = otherwise.add("Constant", value=numpy_helper.from_array(value))  # a branch gives no bare constants
    return one_of(nodes, want, (part, build(part)), (otherwise, nothing))


def sides(nodes: Nodes, value: str, start: int, end: int) -> str:
    """Add the int64 vector of a value's sizes along the axes from `start` up to `end`."""
    return nodes.add("Shape", value, start=start, end=end)

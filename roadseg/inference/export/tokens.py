"""Rewriting a network's token maps for OpenVINO, which works on sequences far better than on maps.

Tokens are maps (B, H, W, C). OpenVINO takes the four dimensions of a map for (N, C, H, W): it computes a layer norm
over the last one as three separate operations, and moves the maps to another order in memory before and after them.
With rows and columns as one dimension, (B, H W, C), the norm is one operation with its scale and offset inside, and
nothing is moved: on a small Twins a quarter to a third of the processor time.
"""

from collections.abc import Iterator

import numpy as np
import openvino as ov
from openvino import opset13
from openvino.passes import ConstantFolding, Manager

_ELEMENTWISE = frozenset({"Add", "Subtract", "Multiply", "Divide", "Gelu", "Relu"})
_LAST_OF_FOUR = ([-1], [3])


def flatten_tokens(model: ov.Model) -> int:
    """Let layer norms, projections and element-wise operations work on (B, H W, C) instead of (B, H, W, C), in place.

    An operation is rewritten where its inputs are maps with the same number of channels, above 1, and constants that
    hold one value or one a channel. Sizes stay free.

    Returns:
        How many operations were rewritten.
    """
    manager = Manager()
    manager.register_pass(ConstantFolding())  # the axes of norms are computed from their ranks
    manager.run_passes(model)
    flattener = _Flattener()
    count = sum(flattener.rewrite(node) for node in model.get_ordered_ops())
    model.validate_nodes_and_infer_types()
    return count


class _Flattener:
    """Rewrites operations in the order in which they are computed."""

    def __init__(self) -> None:
        self._sequences: dict[tuple[str, int], ov.Output] = {}
        """The sequence of a map that was met already."""
        self._leading: dict[tuple[str, int], ov.Node] = {}
        """The batch, height and width of a map, int64 (3,)."""

    def rewrite(self, node: ov.Node) -> bool:
        maps = list(_maps(node))
        if not _can_be_flattened(node, maps):
            return False
        users = list(node.output(0).get_target_inputs())
        channels = node.output(0).get_partial_shape()[3].get_length()
        leading = self._leading_of(maps[0])
        for port in node.inputs():
            port.replace_source_output(self._flat_input(node, port))
        shape = opset13.concat([leading, _integers([channels])], 0)
        restored = opset13.reshape(node.output(0), shape, False).output(0)
        for user in users:
            user.replace_source_output(restored)
        self._sequences[_key(restored)] = node.output(0)
        self._leading[_key(restored)] = leading
        return True

    def _flat_input(self, node: ov.Node, port: ov.Input) -> ov.Output:
        source = port.get_source_output()
        if not _is_constant(source):
            return self._sequence_of(source)
        if node.get_type_name() == "MVN":
            return _integers([-1]).output(0)
        if node.get_type_name() == "MatMul":
            return source
        values = source.get_node().data
        return opset13.constant(values.reshape(-1) if values.ndim else values).output(0)

    def _sequence_of(self, source: ov.Output) -> ov.Output:
        if _key(source) not in self._sequences:
            channels = source.get_partial_shape()[3].get_length()
            flat = opset13.reshape(source, _integers([0, -1, channels]), True)
            self._sequences[_key(source)] = flat.output(0)
        return self._sequences[_key(source)]

    def _leading_of(self, source: ov.Output) -> ov.Node:
        if _key(source) not in self._leading:
            shape = opset13.shape_of(source, "i64")
            self._leading[_key(source)] = opset13.gather(shape, _integers([0, 1, 2]), opset13.constant(np.int64(0)))
        return self._leading[_key(source)]


def _can_be_flattened(node: ov.Node, maps: list[ov.Output]) -> bool:
    kind = node.get_type_name()
    if not maps or (kind not in _ELEMENTWISE and kind not in ("MVN", "MatMul")):
        return False
    shapes = [source.get_partial_shape() for source in maps]
    if any(shape.rank.is_dynamic or len(shape) != 4 or shape[3].is_dynamic for shape in shapes):
        return False
    channels = {shape[3].get_length() for shape in shapes}
    if len(channels) != 1 or 1 in channels or any(_may_broadcast(shape) for shape in shapes):
        return False
    constants = [source for source in _sources(node) if _is_constant(source)]
    if kind == "MVN":
        return len(constants) == 1 and constants[0].get_node().data.tolist() in _LAST_OF_FOUR
    if kind == "MatMul":
        weights = node.input_value(1)
        return _is_constant(weights) and len(weights.get_shape()) == 2 and not node.get_attributes()["transpose_a"]
    return all(_is_one_a_channel(constant.get_shape(), channels) for constant in constants)


def _may_broadcast(shape: ov.PartialShape) -> bool:
    """Whether rows or columns are one: such a map may be spread over another."""
    return any(shape[i].is_static and shape[i].get_length() == 1 for i in (1, 2))


def _is_one_a_channel(shape: ov.Shape, channels: set[int]) -> bool:
    sides = list(shape)
    return all(side == 1 for side in sides[:-1]) and (not sides or sides[-1] in channels | {1})


def _maps(node: ov.Node) -> Iterator[ov.Output]:
    return (source for source in _sources(node) if not _is_constant(source))


def _sources(node: ov.Node) -> list[ov.Output]:
    return [port.get_source_output() for port in node.inputs()]


def _is_constant(source: ov.Output) -> bool:
    return bool(source.get_node().get_type_name() == "Constant")


def _integers(values: list[int]) -> ov.Node:
    return opset13.constant(np.array(values, np.int64))


def _key(source: ov.Output) -> tuple[str, int]:
    return source.get_node().get_name(), source.get_index()

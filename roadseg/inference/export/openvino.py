"""The writer of OpenVINO artefacts: a model file into `model.xml` and `model.bin`.

f32: the weights as they are; OpenVINO's own habit of storing them in float16 is off.
bf16: the same weights, computed in bfloat16. float16 weights would halve the file, but then weights are rounded twice,
to 11 bits and to 8. The network's last layer, and resizing in and out around it, stay in float32: classes of nearly
equal scores change places otherwise.
f16: for devices that compute in it, with weights in float16.
int8: see `roadseg.inference.export.int8`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import openvino as ov
from openvino import opset13
from openvino.utils.node_factory import NodeFactory

from roadseg.errors import EngineError
from roadseg.inference.export.calibration import Calibration
from roadseg.inference.export.graph import METADATA, NETWORK_IMAGE, build_graph
from roadseg.inference.export.tokens import flatten_tokens
from roadseg.inference.openvino_core import openvino_core
from roadseg.inference.package import ModelFile

_AROUND = {"f32": "f32", "bf16": "bf16", "f16": "f16", "int8": "f32"}
"""Precision of an artefact -> that in which OpenVINO computes what is not quantised."""

_PRODUCTS = frozenset({"Convolution", "GroupConvolution", "MatMul"})


def write_openvino(
    model: ModelFile,
    precision: str,
    folder: Path,
    metadata: str,
    *,
    static_size: tuple[int, int] | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Write `model.xml` and `model.bin`.

    Args:
        model: the model file.
        precision: "f32", "bf16", "f16" or "int8".
        folder: to write into.
        metadata: JSON to keep in the file.
        static_size: (H, W) of the only images that it shall take; None takes every size.
        calibration: of int8, which needs it.

    Returns:
        inference_precision, the precision of what is not quantised; of int8 also int8, what
        `roadseg.inference.export.int8.quantise` found.

    Raises:
        EngineError: int8 without calibration frames.
        MissingExtraError: when a package that it needs is not installed.
    """
    if precision == "int8" and calibration is None:
        raise EngineError(
            "int8 needs frames to measure the values inside the network on; give a folder of typical images "
            "(--calibration DIR), or data with labels (-c CONFIG)"
        )
    network = convert(build_graph(model, static_size=static_size, conditional=False))
    details: dict[str, Any] = {"inference_precision": _AROUND[precision]}
    if precision == "int8":
        from roadseg.inference.export.int8 import quantise

        assert calibration is not None
        network, details["int8"] = quantise(network, calibration, model.header.short_side_px)
    save(network, folder, metadata, precision)
    return details


def convert(graph: onnx.ModelProto) -> ov.Model:
    """OpenVINO's network of a graph, rewritten to be fast there; inputs and outputs keep their names."""
    network = openvino_core().read_model(graph.SerializeToString())
    flatten_tokens(network)
    return network


def save(network: ov.Model, folder: Path, metadata: str, precision: str) -> None:
    """Write a network.

    Args:
        network: what `convert` gave.
        folder: to write `model.xml` and `model.bin` into.
        metadata: JSON to keep in the file.
        precision: in which it will be computed.
    """
    path = folder / "model.xml"
    network.set_rt_info(metadata, METADATA)
    exact = _prepare_exact(network) if precision in ("bf16", "f16") else set()
    ov.save_model(network, path, compress_to_fp16=precision == "f16")
    if exact:
        _mark_exact(path, exact)


def exact_nodes(network: ov.Model) -> list[ov.Node]:
    """What must not lose precision: bringing images to the working size, and from the last layer's product on."""
    return [*_before_the_network(network), *_tail(network)]


def _before_the_network(network: ov.Model) -> list[ov.Node]:
    seen = [node for node in network.get_ops() if any(NETWORK_IMAGE in out.get_names() for out in node.outputs())]
    found = {node.get_name(): node for node in seen}
    waiting = list(seen)
    while waiting:
        for parent in _parents(waiting.pop()):
            if parent.get_name() not in found:
                found[parent.get_name()] = parent
                waiting.append(parent)
    return [node for node in found.values() if _computes(node)]


def _tail(network: ov.Model) -> list[ov.Node]:
    """Operations with no product behind them, and the last products themselves."""
    tail: list[ov.Node] = []
    followed: set[str] = set()  # names of what feeds a product of the body
    for node in reversed(network.get_ordered_ops()):
        in_tail = node.get_name() not in followed
        if in_tail and _computes(node):
            tail.append(node)
        if not in_tail or node.get_type_name() in _PRODUCTS:
            followed.update(parent.get_name() for parent in _parents(node))
    return tail


def _parents(node: ov.Node) -> Iterator[ov.Node]:
    return (value.get_node() for value in node.input_values())


def _computes(node: ov.Node) -> bool:
    return node.get_type_name() not in ("Constant", "Parameter", "Result")


def _prepare_exact(network: ov.Model) -> set[str]:
    """The names of the operations to mark.

    While a network is compiled, newer interpolations are replaced by older ones and lose their mark; so they are
    replaced here.
    """
    for node in _tail(network):
        if node.get_type_name() == "Interpolate":
            _replace_interpolation(node)
    network.validate_nodes_and_infer_types()
    return {node.get_friendly_name() for node in exact_nodes(network)}


def _replace_interpolation(node: ov.Node) -> None:
    attributes = node.get_attributes()
    image, target = node.input_value(0), node.input_value(1)
    rank = len(image.get_partial_shape())
    axes = node.input_value(2) if node.get_input_size() > 2 else opset13.constant(list(range(rank))).output(0)
    # The older one has an input for sizes and one for scales, and looks at that which its mode names.
    count = rank if node.get_input_size() == 2 else axes.get_shape()[0]
    sizes, scales = target, opset13.constant(np.ones(count, np.float32)).output(0)
    if attributes["shape_calculation_mode"] == "scales":
        sizes, scales = opset13.constant(np.ones(count, np.int64)).output(0), target
    older = NodeFactory("opset4").create("Interpolate", [image, sizes, scales, axes], attributes)
    older.set_friendly_name(node.get_friendly_name())
    for user in list(node.output(0).get_target_inputs()):
        user.replace_source_output(older.output(0))


def _mark_exact(path: Path, names: set[str]) -> None:
    """Mark operations in a written network as ones whose precision must stay. Python has no call for it."""
    tree = ElementTree.parse(path)
    for layer in tree.getroot().iter("layer"):
        if layer.get("name") in names and layer.get("type") not in ("Const", "Parameter", "Result"):
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(1 if layer.find("data") is not None else 0, info)
            ElementTree.SubElement(info, "attribute", {"name": "precise", "version": "0"})
    tree.write(path, encoding="utf-8", xml_declaration=True)

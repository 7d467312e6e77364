"""A model file as one ONNX graph: bytes of images in, masks, confidences or logits out.

The network itself is written by `torch.onnx.export`; what comes before and after it is put round it here by hand, node
by node, so that it is the same in every runtime that reads ONNX:

    image (B, H, W, 3) uint8 -> [resized as the model's rule says] -> network_image (B, 3, h, w)
    -> the network -> network_logits (B, C, h, w) -> logits float32
    -> [resized back to (H, W)] -> mask (B, H, W) uint8, and confidence (B, H, W) float32

Models with a short side have a second input, `working_size` int64 (2,): the (h, w) at which the network shall see the
images, or (0, 0) for the model's own rule. Models that see images as they are, and graphs of one static size, lack it.

ONNX Runtime computes every node, whichever outputs are fetched, and does not see that a resizing changes nothing. Its
graphs are therefore *conditional*: If nodes leave out what is not needed, and the two inputs `want_mask` and
`want_confidence` (bool, true where they are not fed) say what is; an output that is not wanted is empty. OpenVINO's CPU
plugin (2026.4) mixes up the branches of an If whose shapes change from call to call, and leaves out by itself what no
output needs; graphs for it are plain.
"""

import logging
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch.export import Dim

from roadseg.inference.engines import Output
from roadseg.inference.export.masks import add_outputs
from roadseg.inference.export.nodes import Nodes
from roadseg.inference.export.resizing import add_image, add_working_size
from roadseg.inference.package import ModelFile
from roadseg.inference.scale import working_size
from roadseg.inference.torch_engine import network_of
from roadseg.models.attention import fold_scales

# It tells of each constant that it merges, hundreds of lines for whoever logs at INFO, as the service does.
for _name in ("onnx_ir", "onnxscript"):
    logging.getLogger(_name).setLevel(logging.WARNING)

IMAGE = "image"
WORKING_SIZE = "working_size"
OUTPUTS: tuple[Output, ...] = ("mask", "confidence", "logits")
WANTS = ("want_mask", "want_confidence")
"""Names of the graph's inputs and outputs."""

NETWORK_IMAGE = "network_image"
NETWORK_LOGITS = "network_logits"
"""The border between what is written here and the network: (B, 3, h, w) in 0..255, and (B, C, h, w)."""

_ENLARGING = frozenset({"Resize", "Gather", "Slice"})
"""How `roadseg.models.segmenter.Segmenter.decode` ends."""

METADATA = "roadseg"
"""The key of the graph's metadata under which the facts of an artefact are kept."""


def build_graph(
    model: ModelFile, *, half: bool = False, static_size: tuple[int, int] | None = None, conditional: bool = True
) -> onnx.ModelProto:
    """The graph of a model file, checked.

    Args:
        model: the model file.
        half: whether the network computes in float16; inputs and outputs are the same.
        static_size: (H, W) of the only images that it shall take; the batch stays free. None takes every size.
        conditional: see the module's page; for ONNX Runtime.

    Returns:
        The graph as the module's page describes it, at the opset that torch exports to.

    Raises:
        ModelFileError: when the model's header and weights do not fit each other.
    """
    short_side_px = model.header.short_side_px
    working = None if static_size is None else working_size(static_size, short_side_px)
    network = export_network(model, half=half, static_size=working)
    return compose(network, short_side_px, static_size=static_size, conditional=conditional)


def export_network(
    model: ModelFile, *, half: bool = False, static_size: tuple[int, int] | None = None
) -> onnx.ModelProto:
    """The bare network, from `network_image` to `network_logits`.

    Args:
        model: the model file.
        half: whether it takes, computes and gives float16 instead of float32.
        static_size: (h, w) of the only images that it takes.

    Raises:
        ModelFileError: when the model's header and weights do not fit each other.
    """
    network = network_of(model)
    fold_scales(network)
    if half:
        network = network.half()
    shape, dynamic = example_shape(static_size)
    program = torch.onnx.export(
        network,
        (torch.zeros(shape, dtype=torch.float16 if half else torch.float32),),
        dynamo=True,
        dynamic_shapes=(dynamic,),
        input_names=[NETWORK_IMAGE],
        output_names=[NETWORK_LOGITS],
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def example_shape(static_size: tuple[int, int] | None) -> tuple[tuple[int, int, int, int], dict[int, Any]]:
    """The shape of an image to export a network with, and which of its sides stay free.

    With a batch of 1 the exporter would fix the batch to 1; sides up to 32 would be taken for one patch.
    """
    if static_size is not None:
        return (2, 3, *static_size), {0: Dim.DYNAMIC}
    return (2, 3, 64, 96), {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}


def compose(
    network: onnx.ModelProto,
    short_side_px: int | None,
    *,
    static_size: tuple[int, int] | None = None,
    conditional: bool = True,
) -> onnx.ModelProto:
    """Put images before a network and masks behind it.

    Args:
        network: from `network_image` to `network_logits`, float32 or float16.
        short_side_px: the model's rule of `roadseg.inference.scale`; None shows it images as they are.
        static_size: (H, W) of the only images; the network must then take the working size of these.
        conditional: see the module's page.

    Returns:
        The graph as the module's page describes it.
    """
    before, after = Nodes("before"), Nodes("after")
    size = _size_seen(before, short_side_px, static_size)
    seen = add_image(before, IMAGE, size, compare=conditional and static_size is None)
    before.add("Cast", seen, to=network.graph.input[0].type.tensor_type.elem_type, output=NETWORK_IMAGE)
    wants = {name: after.constant(True, np.bool_, name) for name in WANTS} if conditional else {}
    logits = after.add("Cast", NETWORK_LOGITS, to=TensorProto.FLOAT, output="logits")
    add_outputs(after, logits, IMAGE if size else None, *wants.values(), made_of=_before_enlarging(network))
    height, width = static_size or ("height", "width")
    inputs = [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["batch", height, width, 3])]
    if short_side_px is not None and static_size is None:
        inputs.append(helper.make_tensor_value_info(WORKING_SIZE, TensorProto.INT64, [2]))
    graph = helper.make_graph(
        [*before.nodes, *map(_plain, network.graph.node), *after.nodes],
        "roadseg",
        [*inputs, *(helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in wants)],
        _outputs(network, (height, width), resized=size is not None, empty=conditional),
        [*before.constants, *network.graph.initializer, *after.constants],
    )
    model = helper.make_model(graph, opset_imports=list(network.opset_import), functions=list(network.functions))
    model.ir_version = network.ir_version
    model.producer_name = "roadseg"
    onnx.checker.check_model(model)
    return model


def _before_enlarging(network: onnx.ModelProto) -> str | None:
    """What a network enlarges and crops to give its logits: a sixteenth of their number, and as finite as they are."""
    value, makers = NETWORK_LOGITS, {name: node for node in network.graph.node for name in node.output}
    enlarged = False
    while value in makers and makers[value].op_type in _ENLARGING:
        enlarged |= makers[value].op_type == "Resize"
        value = makers[value].input[0]
    return value if enlarged else None


def _size_seen(nodes: Nodes, short_side_px: int | None, static_size: tuple[int, int] | None) -> str | None:
    """The size at which the network sees the images; None where that is always their own."""
    if short_side_px is None:
        return None
    if static_size is None:
        return add_working_size(nodes, IMAGE, WORKING_SIZE, short_side_px)
    working = working_size(static_size, short_side_px)
    return None if working == static_size else nodes.integers(*working)


def _outputs(
    network: onnx.ModelProto, size: tuple[int | str, int | str], *, resized: bool, empty: bool
) -> list[onnx.ValueInfoProto]:
    """Types and shapes of the outputs; what may be empty has sides of its own."""
    classes = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    seen = ("working_height", "working_width") if resized else size
    at_size: dict[Output, list[int | str]] = {
        name: [f"{name}_batch", f"{name}_height", f"{name}_width"] if empty else ["batch", *size]
        for name in ("mask", "confidence")
    }
    return [
        helper.make_tensor_value_info("mask", TensorProto.UINT8, at_size["mask"]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, at_size["confidence"]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes, *seen]),
    ]


def _plain(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node without notes of where it came from: they name files of the machine that exports."""
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.ClearField("metadata_props")
    plain.ClearField("doc_string")
    return plain

"""The writer of TensorRT artefacts: a model file, through ONNX, into `model.plan`. It has not been run on a GPU yet.

A plan fits the kind of GPU and the version of TensorRT that it was built with; the artefact says which. Networks are
strongly typed, the only kind since TensorRT 11: f16 is float16 in the graph itself, where the network's inputs and
outputs, the resizing around it and the sums in its norms stay float32.
"""

from pathlib import Path
from typing import Any

import onnx
import tensorrt as trt
from onnx import helper

from roadseg.errors import EngineError
from roadseg.inference.export.graph import IMAGE, METADATA, WORKING_SIZE, build_graph
from roadseg.inference.package import ModelFile
from roadseg.inference.scale import working_size

PRECISIONS = ("f32", "f16")

Shape = tuple[int, ...]
Profile = tuple[Shape, Shape, Shape]
"""The least, usual and greatest shape that a plan takes: it holds memory for the greatest, and is fast at the usual."""

MIN_SIDE_PX, MAX_SIDE_PX = 32, 4096
"""Sides of the images that a plan for every size takes, up to 4K."""

MAX_SEEN_PX = 2048
"""Sides at which the network of a plan for every size sees images. Larger ones are seen in windows by default."""

USUAL_SIZE = (512, 1024)

MAX_BATCH = 16
MAX_PIXELS = MAX_SIDE_PX**2
"""Of a batch of the greatest images: a float32 plane of that size for each of 19 classes takes 1.3 GB."""

_WORKSPACE_BYTES = 4 << 30
_log = trt.Logger(trt.Logger.WARNING)


def write_tensorrt(
    model: ModelFile,
    precision: str,
    folder: Path,
    metadata: str,
    *,
    static_size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Write `model.plan`.

    Args:
        model: the model file.
        precision: "f32" or "f16".
        folder: to write into.
        metadata: JSON; a plan has no room for it, and `artefact.json` says the same.
        static_size: (H, W) of the only images that it shall take.

    Returns:
        tensorrt, the version that the plan was built with; profile, the least, usual and greatest shape of images; and
        working_sizes, the least and greatest size at which the network sees them, unless there is one only.

    Raises:
        EngineError: when the precision is another, or TensorRT cannot build the network.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"TensorRT plans are written in {' or '.join(PRECISIONS)}, not in {precision}")
    graph = build_graph(model, half=precision == "f16", static_size=static_size, conditional=False)
    helper.set_model_props(graph, {METADATA: metadata})
    short_side_px = model.header.short_side_px
    profile = image_profile(static_size, short_side_px)
    seen = None if static_size or short_side_px is None else seen_profile(short_side_px)
    plan = build_plan(bytes_at_the_border(graph), profile, seen)
    (folder / "model.plan").write_bytes(plan)
    details: dict[str, Any] = {"tensorrt": trt.__version__, "profile": [list(shape) for shape in profile]}
    return details if seen is None else details | {"working_sizes": [list(seen[0]), list(seen[2])]}


def image_profile(static_size: tuple[int, int] | None, short_side_px: int | None) -> Profile:
    """Shapes (B, H, W, 3) of images: as many at once as `MAX_BATCH` and `MAX_PIXELS` allow.

    Args:
        static_size: (H, W) of the only images.
        short_side_px: of the model; None lets the network see images as they are.
    """
    if static_size is not None:
        least = usual = greatest = static_size
    else:
        least, usual = (MIN_SIDE_PX, MIN_SIDE_PX), USUAL_SIZE
        greatest = (MAX_SIDE_PX, MAX_SIDE_PX) if short_side_px else (MAX_SEEN_PX, MAX_SEEN_PX)
    batch = min(MAX_BATCH, max(1, MAX_PIXELS // (greatest[0] * greatest[1])))
    return (1, *least, 3), (1, *usual, 3), (batch, *greatest, 3)


def seen_profile(short_side_px: int) -> Profile:
    """Sizes (h, w) at which a network with a short side sees images of every size."""
    return (MIN_SIDE_PX, MIN_SIDE_PX), working_size(USUAL_SIZE, short_side_px), (MAX_SEEN_PX, MAX_SEEN_PX)


def bytes_at_the_border(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A plain graph in which images become float32 where they enter: TensorRT takes bytes for inputs and outputs only.

    On a GPU it costs nothing; on CPUs to cut and turn bytes is less work.
    """
    changed, as_floats = onnx.ModelProto(), f"{IMAGE}_float32"
    changed.CopyFrom(graph)
    for node in changed.graph.node:
        node.input[:] = [as_floats if name == IMAGE else name for name in node.input]
    to_floats = helper.make_node("Cast", [IMAGE], [as_floats], name=as_floats, to=onnx.TensorProto.FLOAT)
    changed.graph.node.insert(0, to_floats)
    return changed


def build_plan(graph: onnx.ModelProto, profile: Profile, seen: Profile | None = None) -> bytes:
    """Build a graph for the GPU at hand.

    Args:
        graph: as `bytes_at_the_border` gives it.
        profile: of images.
        seen: of the sizes at which the network sees them, where the graph has an input for that.

    Raises:
        EngineError: when TensorRT cannot; the message says why.
    """
    builder = trt.Builder(_log)
    network = builder.create_network(_strongly_typed())
    parser = trt.OnnxParser(network, _log)
    if not parser.parse(graph.SerializeToString()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"TensorRT {trt.__version__} cannot read the network: {reasons}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.clear_flag(trt.BuilderFlag.TF32)  # f32 means float32: TF32 keeps ten bits of a product's factors
    shapes = builder.create_optimization_profile()
    shapes.set_shape(IMAGE, *profile)
    if seen is not None:  # a shape that is read from an input's values has a profile of values
        shapes.set_shape_input(WORKING_SIZE, *seen)
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT {trt.__version__} cannot build the network; its messages are above")
    return bytes(plan)


def _strongly_typed() -> int:
    """Asked for in TensorRT 10; from 11 on every network is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)

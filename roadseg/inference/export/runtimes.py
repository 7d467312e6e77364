"""Writers of ONNX and torch artefacts: a model file into the files that the runtime reads.

Every writer is a function of (model, precision, folder, metadata, static_size) that writes the files which
`roadseg.inference.artefact.FILES` names into the folder, puts `metadata`, a JSON text, into them where the format has
room for it, and gives what else the artefact shall say, as plain JSON values.
"""

from pathlib import Path
from typing import Any

import torch
from onnx import helper

from roadseg.inference.export.graph import METADATA, build_graph, example_shape
from roadseg.inference.package import ModelFile
from roadseg.inference.scale import working_size
from roadseg.inference.torch_engine import network_of


def write_onnx(
    model: ModelFile, precision: str, folder: Path, metadata: str, *, static_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Write `model.onnx`, in f32 or f16; see the module's page."""
    graph = build_graph(model, half=precision == "f16", static_size=static_size)
    helper.set_model_props(graph, {METADATA: metadata})
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    return {"opset": graph.opset_import[0].version}


def write_torch(
    model: ModelFile, precision: str, folder: Path, metadata: str, *, static_size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Write `model.pt2`, the network alone: the engine resizes as for model files; see the module's page.

    In bf16 the weights stay float32, as autocast wants them.
    """
    working = None if static_size is None else working_size(static_size, model.header.short_side_px)
    program = export_program(model, working)
    torch.export.save(program, folder / "model.pt2", extra_files={f"{METADATA}.json": metadata})
    return {}


def export_program(model: ModelFile, static_size: tuple[int, int] | None = None) -> torch.export.ExportedProgram:
    """The network alone, from images (B, 3, h, w) float32 in 0..255 to logits.

    Args:
        model: the model file.
        static_size: (h, w) of the only images that it takes; the batch stays free. None takes every size.
    """
    shape, dynamic = example_shape(static_size)
    return torch.export.export(network_of(model), (torch.zeros(shape),), dynamic_shapes=(dynamic,))

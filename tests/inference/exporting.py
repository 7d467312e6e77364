"""Model files that are exported in tests: networks as small as they get, whose masks vary all the same."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from roadseg import build_model, load_taxonomy
from roadseg.inference.artefact import Artefact, ArtefactFacts, is_artefact, read_artefact, seal
from roadseg.inference.package import Architecture, ModelFile, ModelHeader, read_model_file, write_model_file
from roadseg.inference.result import write_whole

if TYPE_CHECKING:
    import onnx

BACKBONE = {"embed_dims": [16, 16, 32, 32], "num_heads": [1, 1, 2, 2], "depths": [2, 1, 1, 1]}
"""One block of local and one of global attention, and one a stage after them."""


def write_tiny_model(path: Path, short_side_px: int | None) -> ModelFile:
    """A model file of random weights with CamVid's 11 classes."""
    torch.manual_seed(0)
    network = build_model("twins_svt_nano", "linear_concat", 11, width=16, backbone_options=BACKBONE).eval()
    torch.nn.init.normal_(network.decoder.head.weight, std=2.0)  # a random network says one class everywhere
    header = ModelHeader(
        Architecture("twins_svt_nano", "linear_concat", 11, {"width": 16}, BACKBONE),
        load_taxonomy("camvid11"),
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        short_side_px,
        "for tests only",
    )
    write_model_file(path, header, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    return read_model_file(path)


BIAS, BROKEN_CLASS = "decoder.head.bias", 3


def with_bias(network: "onnx.ModelProto", bias: float) -> "onnx.ModelProto":
    """An exported network whose last layer has another bias for one class."""
    from onnx import numpy_helper

    changed = type(network)()
    changed.CopyFrom(network)
    (held,) = (tensor for tensor in changed.graph.initializer if tensor.name == BIAS)
    values = numpy_helper.to_array(held).copy()
    values[BROKEN_CLASS] = bias
    held.CopyFrom(numpy_helper.from_array(values, BIAS))
    return changed


class TinyArtefacts:
    """Makes artefacts of tiny models. Their networks are the same, and exporting one takes long: it is done once.

    Args:
        models: by short side.
        folder: for the artefacts.
        shared: folder of all processes that run these tests, in which the first leaves its export for the others.
    """

    def __init__(self, models: Mapping[int | None, ModelFile], folder: Path, shared: Path) -> None:
        self.models = models
        self.folder = folder
        self.shared = shared

    def __call__(self, kind: str, short_side_px: int | None, bias: float | None = None) -> Artefact:
        """The artefact of a model; with a bias, that replaces the one of the last layer's class `BROKEN_CLASS`."""
        folder = self.folder / f"{kind}_{short_side_px}_{bias}"
        if not is_artefact(folder):
            self._make(folder, kind, short_side_px, bias)
        return read_artefact(folder)

    def _make(self, folder: Path, kind: str, short_side_px: int | None, bias: float | None) -> None:
        if kind != "torch":
            pytest.importorskip({"onnx": "onnxruntime"}.get(kind, kind), reason=f"runs artefacts of the format {kind}")
        folder.mkdir()
        network = self.onnx_network if kind != "torch" else None
        if bias is not None and network is not None:
            network = with_bias(network, bias)
        if kind == "onnx":
            from roadseg.inference.export.graph import compose

            (folder / "model.onnx").write_bytes(compose(network, short_side_px).SerializeToString())
        elif kind == "openvino":
            from roadseg.inference.export.graph import compose
            from roadseg.inference.export.openvino import convert, save

            network = convert(compose(network, short_side_px, conditional=False))
            save(network, folder, '{"made": "by <tests> & \\"others\\""}', "f32")
        else:
            with torch.no_grad():
                held = self.torch_program.state_dict[BIAS][BROKEN_CLASS]
                usual = held.clone()
                held.fill_(usual if bias is None else bias)
                torch.export.save(self.torch_program, folder / "model.pt2")
                held.copy_(usual)
        model = self.models[short_side_px]
        seal(folder, ArtefactFacts(kind, "f32", model.header, model.digest))

    @cached_property
    def onnx_network(self) -> "onnx.ModelProto":
        for package in ("onnx", "onnxscript"):
            pytest.importorskip(package)
        import onnx

        from roadseg.inference.export.graph import export_network

        kept = self.shared / f"{self.models[None].digest}.onnx"
        if not kept.exists():
            write_whole(kept, export_network(self.models[None]).SerializeToString())
        return onnx.load(kept)

    @cached_property
    def torch_program(self) -> torch.export.ExportedProgram:
        from roadseg.inference.export.runtimes import export_program

        return export_program(self.models[None])

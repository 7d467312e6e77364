"""The PyTorch engine of artefacts: a program of `torch.export`, which needs none of roadseg's networks.

torch reads a `.pt2` file by means that can run code (pickles, expressions that are evaluated): unlike model files, load
torch artefacts only from those you trust.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.export import passes

from roadseg.errors import ArtefactError
from roadseg.inference.artefact import Artefact
from roadseg.inference.engines import Output, check_images, size_seen
from roadseg.inference.torch_engine import NetworkRunner, pick_device


class ProgramEngine(NetworkRunner):
    """Runs a torch artefact; see `roadseg.inference.engines.Engine`.

    Args:
        artefact: of the format "torch".
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        EngineError: when the device is not there.
        ArtefactError: when torch cannot read the program.
    """

    def __init__(self, artefact: Artefact, device: str = "auto") -> None:
        picked = pick_device(device)
        program = _load(artefact.file("model.pt2"))
        if picked.type != "cpu":  # the program names the device of the tensors that it makes
            program = passes.move_to_device_pass(program, str(picked))
        # Its checks want sides above 32, at which the exporter saw more than one patch; the graph is right for others.
        network = program.module(check_guards=False)
        setattr(network, "validate_inputs", False)  # noqa: B010 - a flag, which a Module's type does not tell
        super().__init__(
            lambda batch: cast(torch.Tensor, network(batch.float())),
            artefact.header.short_side_px,
            artefact.facts.precision,
            str(picked),
        )
        self._artefact = artefact

    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """Segment images (B, H, W, 3) uint8 RGB of one size; see `Engine.run`."""
        check_images(images, outputs)
        size_seen(self._artefact, (images.shape[1], images.shape[2]), rescale)
        return super().run(images, outputs, rescale=rescale)


def _load(path: Path) -> torch.export.ExportedProgram:
    try:
        return torch.export.load(path)
    except Exception as error:  # torch documents none; whatever it is, the file cannot be used
        raise ArtefactError(
            f"torch {torch.__version__} cannot load {path} ({str(error).splitlines()[0]}); update torch, or export the "
            "model again"
        ) from error

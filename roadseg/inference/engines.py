"""Engines: what runs a network. Each takes uint8 images and gives masks, so that 8-bit planes cross the border."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from roadseg.errors import EngineError, name_missing_extra
from roadseg.inference.package import ModelFile

PRECISIONS = ("auto", "f32", "bf16")
ENGINES = ("auto", "torch")


class Engine(Protocol):
    """Runs one network on one device. Calls from several threads are allowed."""

    name: str
    device: str
    precision: str

    def run(
        self, images: npt.NDArray[np.uint8], *, confidence: bool
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
        """Segment images of one size.

        Args:
            images: (B, H, W, 3) uint8 RGB.
            confidence: whether to compute the probability of the chosen class.

        Returns:
            masks (B, H, W) uint8 of class ids, and confidences (B, H, W) float32 in 0..1 or None.
        """
        ...


def make_engine(model: ModelFile, engine: str, precision: str, device: str) -> Engine:
    """Make the engine that was asked for.

    Args:
        model: what to run.
        engine: "auto" or "torch".
        precision: "auto" (which is f32), "f32" or "bf16".
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        EngineError: when a name is unknown or the device is not there.
        MissingExtraError: when the engine's packages are not installed.
    """
    if engine not in ENGINES:
        raise EngineError(f"no engine '{engine}'; known: {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"no precision '{precision}'; known: {', '.join(PRECISIONS)}")
    with name_missing_extra("the torch engine"):
        from roadseg.inference.torch_engine import TorchEngine
    return TorchEngine(model, "f32" if precision == "auto" else precision, device)

"""The masks that every engine is compared with: torch's, in float32, from the model file."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from roadseg.benching.loading import reason_of
from roadseg.benching.work import WANTED
from roadseg.errors import MissingExtraError
from roadseg.image_size import Size
from roadseg.inference import bundled
from roadseg.inference.artefact import is_artefact, read_artefact
from roadseg.inference.package import file_digest
from roadseg.inference.predictor import load_predictor

Masks = dict[tuple[Size, int], npt.NDArray[np.uint8]]
"""(B, H, W) class ids by size and batch of the images."""


def reference_masks(
    model: str, others: Collection[str], images: Mapping[tuple[Size, int], npt.NDArray[np.uint8]]
) -> Masks | str:
    """Torch's masks in float32, or why there are none.

    Args:
        model: whose; of an artefact those of the model file that it was made of.
        others: models among which that file may be; the bundled ones are looked through too.
        images: (B, H, W, 3) uint8 RGB by size and batch.
    """
    try:
        source = _model_file(bundled.model_path(model), others)
        if source is None:
            return "no agreement: give the model file that this artefact was made of as a MODEL too"
        # On the CPU: GPUs may round float32 products to fewer bits.
        torch = load_predictor(source, engine="torch", precision="f32", device="cpu").engine
        return {pair: torch.run(batch, WANTED)["mask"] for pair, batch in images.items()}
    except MissingExtraError:
        return "no agreement: torch is not installed"
    except Exception as error:  # out of memory, for one; the times are worth having without it
        return f"no agreement: {reason_of(error)}"


def _model_file(path: Path, others: Collection[str]) -> Path | None:
    if not is_artefact(path):
        return path
    digest = read_artefact(path).facts.model_digest
    ours = (bundled.WEIGHTS / f"{name}.safetensors" for name in bundled.BUNDLED_MODELS)  # one may not be installed
    candidates = (*(bundled.model_path(name) for name in others), *ours)
    return next((file for file in candidates if file.is_file() and file_digest(file) == digest), None)

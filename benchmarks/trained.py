"""The bundled model among the contenders of `benchmarks.engines`: with trained weights int8 is a choice of layers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Run
from roadseg.benching.loading import export_for_times
from roadseg.benching.work import WANTED
from roadseg.errors import ConfigError
from roadseg.inference.artefact import Artefact, read_artefact
from roadseg.inference.bundled import DEFAULT_MODEL
from roadseg.inference.package import ModelFile
from roadseg.inference.predictor import load_predictor

TORCH = f"{DEFAULT_MODEL}, torch eager f32"
INT8 = f"{DEFAULT_MODEL}, OpenVINO int8"
TRAINED = {
    # name: engine, precision
    TORCH: ("torch", "f32"),
    f"{DEFAULT_MODEL}, OpenVINO f32": ("openvino", "f32"),
    f"{DEFAULT_MODEL}, OpenVINO bf16": ("openvino", "bf16"),
    INT8: ("openvino", "int8"),
}
_HOW = f"roadseg export {DEFAULT_MODEL} --format openvino --precision int8 -c DATA -o DIR"


def trained_contenders(
    model: ModelFile, int8: Artefact | None, images: np.ndarray, folder: Path
) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Names, and what makes each ready.

    Args:
        model: the bundled one.
        int8: of `read_int8`; None leaves a reason in its place.
        images: (B, H, W, 3) uint8.
        folder: for artefacts.
    """
    for name, (engine, precision) in TRAINED.items():
        yield name, lambda pair=(engine, precision): _run(model, int8, *pair, images, folder)


def _run(model: ModelFile, int8: Artefact | None, engine: str, precision: str, images: np.ndarray, folder: Path) -> Run:
    source = model.path
    if precision == "int8":
        if int8 is None:
            raise ConfigError(f"not given; make it with `{_HOW}`, and give --int8 DIR")
        source = int8.path
    elif engine != "torch":
        source = folder / f"trained-{engine}-{precision}"
        export_for_times(model, engine, precision, source)
    ready = load_predictor(source, engine=engine, precision=precision, device="cpu").engine
    return lambda: ready.run(images, WANTED)["mask"]


def read_int8(folder: Path, model: ModelFile) -> Artefact:
    """The bundled model in int8, exported beforehand on real frames.

    Raises:
        ConfigError: when the folder holds another model, or another precision.
        ArtefactError: when it holds none.
    """
    artefact = read_artefact(folder)
    facts = artefact.facts
    if (facts.format, facts.precision, facts.model_digest) != ("openvino", "int8", model.digest):
        raise ConfigError(
            f"--int8 is {folder}, {facts.format} in {facts.precision} of a model file {facts.model_digest[:12]}; give "
            f"what `{_HOW}` makes of {model.digest[:12]}"
        )
    return artefact


def int8_facts(artefact: Artefact) -> dict[str, Any]:
    """What the export found, for the record: which layers were kept, and the scores before and after."""
    found = artefact.facts.verification
    names = ("source", "frames", "frames_agreement", "scores_of_model", "scores")
    return {
        "digest": artefact.digest,
        "int8": artefact.facts.details.get("int8"),
        "verification": {name: found.get(name) for name in names},
    }

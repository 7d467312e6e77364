"""What is to be measured: each model on each engine, at each precision, size and batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from roadseg.errors import ConfigError, ModelFileError
from roadseg.image_size import Size, size_name
from roadseg.inference.artefact import is_artefact, read_artefact
from roadseg.inference.bundled import model_path
from roadseg.inference.choices import PRECISIONS
from roadseg.inference.engines import ENGINES

LARGEST_BATCH = 1024
LARGEST_SIDE_PX = 16384
"""Twice that of an 8K image."""


@dataclass(frozen=True)
class Runner:
    """A model on an engine.

    Attributes:
        model: name of a bundled model, or path of a model file or an exported artefact's folder.
        engine: its name; "auto" is an artefact's own.
        precision: its name; "auto" is an artefact's own, else f32.
        device: as `load_predictor` takes it.
    """

    model: str
    engine: str
    precision: str = "auto"
    device: str = "auto"


@dataclass(frozen=True)
class Combination:
    """One row of the table.

    Attributes:
        runner: what segments.
        size: (H, W) of the images in px.
        batch: how many images run together.
    """

    runner: Runner
    size: Size
    batch: int = 1

    def __str__(self) -> str:
        """For messages and progress."""
        runner = self.runner
        return f"{runner.model} {runner.engine} {runner.precision} {self.batch}x{size_name(self.size)}"


def combine(
    models: Sequence[str],
    engines: Sequence[str],
    precisions: Sequence[str],
    sizes: Sequence[Size],
    batches: Sequence[int],
    device: str = "auto",
) -> list[Combination]:
    """Every combination once, in the order given.

    Args:
        models: see `Runner`; at least one.
        engines: names; none means each known one for a model file, and its own for an artefact.
        precisions: names; at least one.
        sizes: (H, W) in px; at least one.
        batches: at least one.
        device: as `load_predictor` takes it.

    Raises:
        ConfigError: when nothing is left to measure, a name is unknown, or a number cannot work.
        ModelFileError: when a model is not there, or a folder is no whole artefact.
    """
    for kind, given in (("model", models), ("precision", precisions), ("size", sizes), ("batch", batches)):
        if not given:
            raise ConfigError(f"no {kind} to measure; give at least one")
    for model in models:
        _check_model(model)
    _check_known("engine", engines, ENGINES)
    _check_known("precision", precisions, PRECISIONS)
    for size in sizes:
        if not 1 <= min(size) <= max(size) <= LARGEST_SIDE_PX:
            raise ConfigError(f"size is {size_name(size)}; use sides from 1 to {LARGEST_SIDE_PX} px")
    for batch in batches:
        if not 1 <= batch <= LARGEST_BATCH:
            raise ConfigError(f"batch is {batch}; use 1 to {LARGEST_BATCH} images")
    every = (
        Combination(Runner(model, engine, precision, device), size, batch)
        for model in models
        for engine, precision, size, batch in product(_engines_of(model, engines), precisions, sizes, batches)
    )
    return list(dict.fromkeys(every))


def _engines_of(model: str, engines: Sequence[str]) -> Sequence[str]:
    if engines:
        return engines
    return ("auto",) if is_artefact(model_path(model)) else tuple(name for name in ENGINES if name != "auto")


def _check_model(model: str) -> None:
    path = model_path(model)
    if not path.exists():
        raise ModelFileError(f"no model at {path}; give a model file, an exported folder, or a bundled model's name")
    if path.is_dir():
        read_artefact(path)  # a folder that is none, or is damaged, is refused before anything is measured


def _check_known(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"no {kind} '{name}'; known: {', '.join(known)}")

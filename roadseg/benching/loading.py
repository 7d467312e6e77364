"""Opening what is measured: model files are exported for the engines that run artefacts, once each."""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from roadseg.benching.combinations import Runner
from roadseg.errors import EngineError, RoadsegError, name_missing_extra
from roadseg.inference.artefact import is_artefact
from roadseg.inference.bundled import model_path
from roadseg.inference.engines import MODEL_FILE_ENGINES, THREADS_VARIABLE
from roadseg.inference.package import ModelFile, read_model_file
from roadseg.inference.predictor import Predictor, load_predictor

_RUN_MODEL_FILES = ("auto", *MODEL_FILE_ENGINES)
"""Engines that do; the others are called as the format of the artefacts that they run."""

_LONGEST_REASON = 300
_CALIBRATED_SIZE, _CALIBRATED_SCENES = (360, 640), 16


class Workspace:
    """A temporary folder for artefacts; used with `with`, which removes it.

    Args:
        tell: is given a line before each export.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._folder = tempfile.TemporaryDirectory(prefix="roadseg-bench-")
        self._made: dict[tuple[str, str, str], Path | str] = {}

    def __enter__(self) -> "Workspace":
        """The workspace itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def ready(self, runner: Runner) -> Runner:
        """A runner whose model its engine loads as it is: the artefact of a model file, where it takes one.

        Raises:
            RoadsegError: when the model cannot be exported so; the same again for the same export.
        """
        if runner.engine in _RUN_MODEL_FILES or is_artefact(model_path(runner.model)):
            return runner
        key = runner.model, runner.engine, runner.precision
        if key not in self._made:
            self._tell(f"exporting {runner.model} as {runner.engine} in {runner.precision}")
            self._made[key] = self._export(*key)
        made = self._made[key]
        if isinstance(made, str):
            raise EngineError(made)
        return replace(runner, model=str(made))

    def _export(self, model: str, form: str, precision: str) -> Path | str:
        # Whatever names the artefact calls it by its folder: the model's name, rather.
        folder = Path(self._folder.name) / f"{len(self._made)}-{form}-{precision}" / Path(model).stem
        folder.parent.mkdir()
        try:
            export_for_times(read_model_file(model_path(model)), form, precision, folder)
        except Exception as error:  # runtimes raise what they like; all of it is a reason
            return reason_of(error)
        return folder


def export_for_times(model: ModelFile, form: str, precision: str, folder: Path, *, keep_layers: bool = True) -> None:
    """Export a model file to measure it: int8 is calibrated on made-up scenes, and what differs from torch is kept.

    Args:
        model: the model file.
        form: the artefact's format.
        precision: the artefact's.
        folder: to make.
        keep_layers: of int8; see `roadseg.inference.export.calibration.Calibration`.

    Raises:
        RoadsegError: when it cannot be exported so.
    """
    with name_missing_extra("exporting"):
        from roadseg.inference.export.write import export_model
    options: dict[str, Any] = {}
    if precision == "int8":
        from roadseg.benching.work import scenes
        from roadseg.inference.export.calibration import Calibration

        options["calibration"] = Calibration(
            list(scenes(_CALIBRATED_SIZE, _CALIBRATED_SCENES)), keep_layers=keep_layers
        )
    # Whatever differs is measured too: its agreement is in its row.
    export_model(model, form, precision, folder, allow_mismatch=True, **options)


def open_runner(runner: Runner) -> Predictor:
    """Load a model in its engine.

    Raises:
        RoadsegError: when it cannot be loaded so.
    """
    return load_predictor(runner.model, engine=runner.engine, precision=runner.precision, device=runner.device)


def use_threads(threads: int | None) -> None:
    """Give every engine that this process and those that it starts will make so many threads; None changes nothing."""
    if threads is None:
        return
    os.environ[THREADS_VARIABLE] = os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def reason_of(error: BaseException) -> str:
    """One line that says why something did not run."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else "no message"
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, RoadsegError):
        first = f"the package '{error.name}' is not installed"
    elif not isinstance(error, RoadsegError):
        first = f"{type(error).__name__}: {first}"
    return first if len(first) <= _LONGEST_REASON else f"{first[: _LONGEST_REASON - 3]}..."

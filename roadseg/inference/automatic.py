"""What runs a model file where no engine is named: OpenVINO on a CPU, where it is installed, else torch.

A model file is converted once, see `roadseg.inference.converted`. Nothing here may fail where torch alone would work:
whatever goes wrong is logged, and torch runs the model.
"""

import logging
import os
import sys
from importlib.util import find_spec

from roadseg.errors import EngineError, MissingExtraError, RoadsegError, name_missing_extra
from roadseg.inference.bundled import name_to_type
from roadseg.inference.converted import CACHE_VARIABLE, OFF, PRECISIONS, cache_folder, converted, first_line
from roadseg.inference.engines import Engine, thread_count
from roadseg.inference.package import ModelFile

_CUDA_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap", "/dev/nvhost-ctrl")
"""Of which Linux has one where CUDA can be: servers and desktops, Windows' subsystem for Linux, Jetsons."""

_log = logging.getLogger("roadseg.inference")
_told: set[str] = set()


def automatic_engine(model: ModelFile, precision: str, device: str, streams: int = 1) -> Engine:
    """Make the engine that suits a model file here; what it is and why is logged, once in a process.

    Args:
        model: the model file.
        precision: "auto" (which is f32), "f32" or "bf16".
        device: "auto", "cpu", "cuda" or "cuda:N".
        streams: of OpenVINO; see `roadseg.inference.engines.make_engine`.

    Raises:
        EngineError: when neither engine has the precision or the device, or `ROADSEG_THREADS` is no number.
        MissingExtraError: when neither engine's packages are installed.
    """
    thread_count()  # refused before anything is converted
    precision = precision_of(model, precision)
    reason = _why_torch(device)
    if reason is None:
        engine = _tried(model, precision, streams)
        if engine is not None:
            reason = "a CPU with OpenVINO installed" + ("" if device == "cpu" else ", and no CUDA device")
            _tell(logging.INFO, f"{model.path.stem}: engine openvino, {precision}: {reason}")
            return engine
        reason = "it could not be converted for OpenVINO"
    _tell(logging.INFO, f"{model.path.stem}: engine torch, {precision}: {reason}")
    with name_missing_extra("the torch engine"):
        from roadseg.inference.torch_engine import TorchEngine
    return TorchEngine(model, precision, device)


def openvino_engine(model: ModelFile, precision: str, device: str, streams: int = 1) -> Engine:
    """Make an OpenVINO engine of a model file, which is converted as for `automatic_engine`.

    Args:
        model: the model file.
        precision: as of `automatic_engine`.
        device: "auto", "cpu", or another of OpenVINO's, such as "gpu".
        streams: as of `automatic_engine`.

    Raises:
        EngineError: when precision or device cannot be, or the model file cannot be converted.
        MissingExtraError: when a package is not installed.
    """
    thread_count()
    precision = precision_of(model, precision)
    with name_missing_extra("the openvino engine"):
        from roadseg.inference.openvino_engine import OpenVinoEngine, check_device
    check_device(device, precision)
    try:
        artefact = converted(model, precision)
    except OSError as error:
        raise EngineError(f"{model.path.stem} cannot be converted for OpenVINO: {first_line(error)}") from error
    return OpenVinoEngine(artefact, device, streams=streams)


def precision_of(model: ModelFile, precision: str) -> str:
    """The precision that is meant.

    Args:
        model: the model file, for the message.
        precision: as of `automatic_engine`.

    Raises:
        EngineError: when no engine runs a model file in it.
    """
    precision = "f32" if precision == "auto" else precision
    if precision not in PRECISIONS:
        raise EngineError(
            f"a model file does not run in {precision}; export it first: `roadseg export {name_to_type(model.path)} "
            f"--format openvino --precision {precision} -o DIR`, or use {' or '.join(PRECISIONS)}"
        )
    return precision


def _why_torch(device: str) -> str | None:
    """Why OpenVINO is not even tried; None where it is."""
    if device not in ("auto", "cpu"):
        return f"device {device}"
    if find_spec("openvino") is None:
        return "OpenVINO is not installed"
    if cache_folder() is None:
        return f"nothing is converted, because {CACHE_VARIABLE} is '{OFF}' or there is no home folder"
    if device == "auto" and _has_cuda():
        return "there is a CUDA device"
    return None


def _has_cuda() -> bool:
    # Importing torch to ask takes longer than loading a converted model.
    if sys.platform == "linux" and not any(map(os.path.exists, _CUDA_DEVICES)):
        return False
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _tried(model: ModelFile, precision: str, streams: int) -> Engine | None:
    try:
        from roadseg.inference.openvino_engine import OpenVinoEngine, check_device

        check_device("cpu", precision)  # before a minute of converting
        return OpenVinoEngine(converted(model, precision), "cpu", streams=streams)
    except MissingExtraError as error:
        _tell(logging.INFO, str(error))
    except Exception as error:  # exporters and runtimes raise errors of many classes; torch runs the model all the same
        _tell(logging.WARNING, f"{model.path.stem}: not run in OpenVINO: {first_line(error)}")
        if not isinstance(error, OSError | RoadsegError):
            _log.debug("the error was", exc_info=error)
    return None


def _tell(level: int, line: str) -> None:
    if line not in _told:
        _told.add(line)
        _log.log(level, "%s", line)

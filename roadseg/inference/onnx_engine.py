"""The ONNX Runtime engine; it needs no torch."""

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from roadseg.errors import ArtefactError, EngineError
from roadseg.inference.artefact import Artefact
from roadseg.inference.engines import Output, check_images, size_seen, thread_count

_ERRORS_ONLY = 3


class OnnxEngine:
    """Runs an ONNX artefact; see `roadseg.inference.engines.Engine`.

    Args:
        artefact: of the format "onnx".
        device: "auto" (the first CUDA device where the CUDA build of ONNX Runtime is installed and works, else the
            CPU), "cpu", "cuda" or "cuda:N".
        threads: on the CPU; None takes `roadseg.inference.engines.thread_count`.

    Raises:
        EngineError: when the device is not there.
        ArtefactError: when ONNX Runtime cannot read the graph.
    """

    name = "onnx"
    special_sizes = 0
    batches = True
    streams = 1

    def __init__(self, artefact: Artefact, device: str = "auto", *, threads: int | None = None) -> None:
        self.precision = artefact.facts.precision
        self._artefact = artefact
        self._session, self.device = _open(artefact, device, threads or thread_count())
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._inputs |= {value.name for value in self._session.get_overridable_initializers()}

    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """Segment images (B, H, W, 3) uint8 RGB of one size; see `Engine.run`."""
        check_images(images, outputs)
        working = size_seen(self._artefact, (images.shape[1], images.shape[2]), rescale)
        names = sorted(set(outputs))
        if not names:
            return {}
        feeds: dict[str, npt.NDArray[Any]] = {
            "image": np.ascontiguousarray(images),
            "working_size": np.array(working, np.int64),
            **{f"want_{output}": np.array(output in outputs) for output in ("mask", "confidence")},
        }
        feeds = {name: value for name, value in feeds.items() if name in self._inputs}
        return dict(zip(names, self._session.run(names, feeds), strict=True))


def _open(artefact: Artefact, device: str, threads: int | None) -> tuple[onnxruntime.InferenceSession, str]:
    """The session and the device that it runs on."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise EngineError(f"no device '{device}'; known: auto, cpu, cuda, cuda:N")
    if device == "cpu" or (device == "auto" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers()):
        return _session(artefact, threads, []), "cpu"
    number = device.partition(":")[2] or "0"
    session = None
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        # Float32 is float32: by itself ONNX Runtime rounds the factors of products to 10 bits (TF32).
        session = _session(artefact, threads, [("CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"})])
        if session.get_providers()[0] == "CUDAExecutionProvider":  # it is left out where CUDA does not work
            return session, f"cuda:{number}"
    if device == "auto" and session is not None:
        return session, "cpu"
    raise EngineError(
        f"device '{device}' cannot be used here: ONNX Runtime has {', '.join(onnxruntime.get_available_providers())}; "
        "use 'auto' or 'cpu', or install onnxruntime-gpu in place of onnxruntime"
    )


def _session(
    artefact: Artefact, threads: int | None, providers: list[tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    path = artefact.file("model.onnx")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class for each status, and no common one but this
        raise ArtefactError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path} ({str(error).splitlines()[0]}); update "
            "onnxruntime, or export the model again"
        ) from error

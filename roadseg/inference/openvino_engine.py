"""The OpenVINO engine; it needs no torch."""

import logging
import re
import threading
from collections import deque
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13

from roadseg.cores import usable_cores
from roadseg.errors import ArtefactError, EngineError
from roadseg.inference.artefact import Artefact
from roadseg.inference.engines import Output, check_images, size_seen, thread_count
from roadseg.inference.openvino_core import openvino_core

COMPILED_SIZES = 4
"""For so many sizes of images, the first that come, the network is compiled specially; 0 never does that.

Compiled for one size, the network takes down to three fifths of the processor time that it takes compiled for all of
them: its index arithmetic is done beforehand, element-wise operations are fused, and no shape is looked at again. That
costs about a second for each size, which a folder of many sizes never earns back; its further sizes share one network.
Both give the same logits but for the last bits, so which sizes are special never changes while an engine lives.
"""

MANY_SIZES = 4
"""So many sizes that share a network are worth a warning; the comparison with torch after an export has two of them."""

_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16", "int8": "INT8"}
_IMAGE, _WORKING_SIZE, _NETWORK_IMAGE = "image", "working_size", "network_image"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Compiled:
    """A network compiled for one task, and its requests that nobody uses at the moment; a request has one user."""

    network: ov.CompiledModel
    idle: deque[ov.InferRequest] = field(default_factory=deque)

    def infer(self, feeds: dict[str, npt.NDArray[Any]], names: list[Output]) -> dict[Output, npt.NDArray[Any]]:
        try:
            request = self.idle.pop()  # atomic
        except IndexError:
            request = self.network.create_infer_request()
        try:
            request.infer(feeds, share_inputs=True, share_outputs=True)
            return {name: np.array(request.get_tensor(name).data) for name in names}  # the request's own are reused
        finally:
            self.idle.append(request)


@dataclass(frozen=True)
class _Task:
    """What a network is compiled for; sizes are None where it takes all of them."""

    outputs: tuple[Output, ...]
    size: tuple[int, int] | None
    working: tuple[int, int] | None


class OpenVinoEngine:
    """Runs an OpenVINO artefact; see `roadseg.inference.engines.Engine`.

    Images of a batch are run one by one: on a CPU that takes no longer, and the mask of an image does not depend on
    what else was in its batch. Calls from several threads share compiled networks, each with a request of its own.

    Args:
        artefact: of the format "openvino".
        device: "auto" and "cpu" are the CPU; others are OpenVINO's names, such as "gpu" or "gpu.1".
        threads: on the CPU; None takes `roadseg.inference.engines.thread_count`.
        compiled_sizes: see `COMPILED_SIZES`.
        streams: how many images run side by side on the CPU, each on its part of the cores; at most one a core, and one
            elsewhere. A single image takes longer then, many images less time together: threads that do not work on the
            same image need not wait for one another.

    Raises:
        EngineError: when the device is not there, or lacks the artefact's precision.
        ArtefactError: when OpenVINO cannot read the network.
    """

    name = "openvino"
    batches = False

    def __init__(
        self,
        artefact: Artefact,
        device: str = "auto",
        *,
        threads: int | None = None,
        compiled_sizes: int = COMPILED_SIZES,
        streams: int = 1,
    ) -> None:
        self.precision = artefact.facts.precision
        self._artefact = artefact
        self._core = openvino_core()
        self._device = _pick_device(self._core, device)
        self.device = self._device.lower()
        check_precision(self._core, self._device, self.precision)
        self._model = _read(self._core, artefact)
        threads = threads or thread_count()
        self.streams = max(1, min(streams, threads or usable_cores())) if self._device == "CPU" else 1
        self._config = _config(artefact, self._device, threads, self.streams)
        self.special_sizes = compiled_sizes
        self._special: set[tuple[tuple[int, int], tuple[int, int]]] = set()
        self._compiled: dict[_Task, Future[_Compiled]] = {}
        self._lock = threading.Lock()
        self._cloning = threading.Lock()
        self._others: set[tuple[int, int]] = set()

    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """Segment images (B, H, W, 3) uint8 RGB of one size; see `Engine.run`."""
        check_images(images, outputs)
        size = (images.shape[1], images.shape[2])
        working = size_seen(self._artefact, size, rescale)
        names: list[Output] = sorted(set(outputs))
        if not names:
            return {}
        special = self._is_special(size, working)
        compiled = self._for(_Task(tuple(names), size if special else None, working if special else None))
        feeds: dict[str, npt.NDArray[Any]] = {}
        if not special and _has_working_size(self._model):
            feeds[_WORKING_SIZE] = np.array(working, np.int64)
        rows = [compiled.infer({_IMAGE: np.ascontiguousarray(image[None]), **feeds}, names) for image in images]
        return {name: rows[0][name] if len(rows) == 1 else np.concatenate([r[name] for r in rows]) for name in names}

    def _is_special(self, size: tuple[int, int], working: tuple[int, int]) -> bool:
        """Whether images of a size, seen at another, have networks of their own."""
        with self._lock:
            if (size, working) in self._special:
                return True
            if len(self._special) < self.special_sizes:
                self._special.add((size, working))
                return True
            self._note(size)
        return False

    def _note(self, size: tuple[int, int]) -> None:
        """Warn once when many sizes share the network for all of them."""
        if not self.special_sizes or size in self._others or len(self._others) == MANY_SIZES:
            return
        self._others.add(size)
        if len(self._others) == MANY_SIZES:
            _log.warning(
                "images come in many sizes: those after the first %d share one network, which is slower by up to two "
                "thirds",
                self.special_sizes,
            )

    def _for(self, task: _Task) -> _Compiled:
        """The network compiled for a task: by the first who asks; who asks for another one does not wait for it."""
        with self._lock:
            future = self._compiled.get(task)
            first = future is None
            if future is None:
                future = self._compiled[task] = Future()
        if not first:
            return future.result()
        try:
            future.set_result(_Compiled(self._core.compile_model(self._cut(task), self._device, self._config)))
        except BaseException as error:  # Ctrl-C, too: others must not wait for ever
            with self._lock:
                del self._compiled[task]
            future.set_exception(error)
            raise
        return future.result()

    def _cut(self, task: _Task) -> ov.Model:
        with self._cloning:
            return specialised(self._model, task.outputs, task.size, task.working)


def check_device(device: str, precision: str) -> None:
    """Refuse a device that is not there, or lacks a precision.

    Args:
        device: as of `OpenVinoEngine`.
        precision: of the network.

    Raises:
        EngineError: then.
    """
    core = openvino_core()
    check_precision(core, _pick_device(core, device), precision)


def _pick_device(core: ov.Core, name: str) -> str:
    if re.fullmatch(r"cuda(:\d+)?", name):
        raise EngineError(f"device '{name}' cannot be used here: OpenVINO runs on Intel's devices and CPUs; use 'cpu'")
    wanted = "CPU" if name == "auto" else name.upper()
    there = core.available_devices
    if wanted not in there:
        known = ", ".join(device.lower() for device in there)
        raise EngineError(f"no device '{name}' for OpenVINO here; there are: auto, {known}")
    return wanted


def check_precision(core: ov.Core, device: str, precision: str) -> None:
    """Refuse a precision that a device would replace by another one without a word.

    Raises:
        EngineError: naming those that it has.
    """
    able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[precision] not in able:
        raise EngineError(
            f"device '{device.lower()}' ({core.get_property(device, 'FULL_DEVICE_NAME')}) does not compute in "
            f"{precision}: OpenVINO names {', '.join(able)}; export the model with --precision f32"
        )


def _read(core: ov.Core, artefact: Artefact) -> ov.Model:
    path = artefact.file("model.xml")
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise ArtefactError(
            f"OpenVINO {ov.__version__} cannot load {path} ({str(error).splitlines()[-1]}); update openvino, or export "
            "the model again"
        ) from error


def _config(artefact: Artefact, device: str, threads: int | None, streams: int) -> dict[str, Any]:
    # Said always: by itself OpenVINO takes bf16 wherever the processor has it.
    around = str(artefact.facts.details.get("inference_precision", "f32"))
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": around, "PERFORMANCE_HINT": "LATENCY"}
    if streams > 1:
        # Every network pins its streams to cores from the first one on: images of two sizes would share a core.
        config |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams), "ENABLE_CPU_PINNING": False}
    if threads is not None and device == "CPU":
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _has_working_size(model: ov.Model) -> bool:
    return any(_WORKING_SIZE in port.get_names() for port in model.inputs)


def specialised(
    model: ov.Model,
    outputs: Collection[str],
    size: tuple[int, int] | None = None,
    working: tuple[int, int] | None = None,
) -> ov.Model:
    """A copy of a network that computes less.

    Args:
        model: as `roadseg.inference.export.openvino` writes it.
        outputs: that it keeps.
        size: (H, W) of the only image that it takes, alone in its batch; None takes all.
        working: (h, w) at which the network sees that image.
    """
    copy = model.clone()
    for result in copy.get_results():
        if not result.input_value(0).get_names() & set(outputs):
            copy.remove_result(result)
    if size is None or working is None:
        return copy
    for parameter in copy.get_parameters():
        if _WORKING_SIZE in parameter.output(0).get_names():
            _replace(parameter.output(0), opset13.constant(np.array(working, np.int64)).output(0))
            copy.remove_parameter(parameter)
    if size == working:
        _show_as_they_are(copy)
    copy.reshape({_IMAGE: [1, *size, 3]})
    return copy


def _show_as_they_are(model: ov.Model) -> None:
    """Leave out the resampling of images that have the working size: its products would change nothing."""
    seen = next((o for node in model.get_ops() for o in node.outputs() if _NETWORK_IMAGE in o.get_names()), None)
    if seen is None:
        return
    channels_first = opset13.transpose(model.input(_IMAGE), opset13.constant(np.array([0, 3, 1, 2], np.int64)))
    _replace(seen, opset13.convert(channels_first, seen.get_element_type()).output(0))


def _replace(old: ov.Output, new: ov.Output) -> None:
    for port in list(old.get_target_inputs()):
        port.replace_source_output(new)

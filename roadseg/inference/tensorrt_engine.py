"""The TensorRT engine; it needs no torch. It has not been run on a GPU yet.

Memory on the GPU is had through `cuda-python`, whose functions give an error code first and results after it.
"""

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorrt as trt
from cuda.bindings import runtime as cuda

from roadseg.errors import ArtefactError, EngineError
from roadseg.inference.artefact import Artefact
from roadseg.inference.engines import Output, check_images, size_seen

_IMAGE, _WORKING_SIZE = "image", "working_size"
_log = trt.Logger(trt.Logger.WARNING)


class TensorRtEngine:
    """Runs a TensorRT artefact; see `roadseg.inference.engines.Engine`.

    Batches above what the plan takes at once run in parts. Calls from several threads each have a context, a stream and
    buffers of their own. All outputs are computed; only those that are asked for are copied from the GPU.

    Args:
        artefact: of the format "tensorrt".
        device: "auto" and "cuda" are the first GPU; or "cuda:N".

    Raises:
        EngineError: when there is no such GPU.
        ArtefactError: when the plan was built for another GPU or another TensorRT.
    """

    name = "tensorrt"
    special_sizes = 0
    batches = True
    streams = 1

    def __init__(self, artefact: Artefact, device: str = "auto") -> None:
        self.precision = artefact.facts.precision
        self._artefact = artefact
        self._number = _pick_device(device)
        self.device = f"cuda:{self._number}"
        _check(cuda.cudaSetDevice(self._number), f"use {self.device}")
        self._runtime = trt.Runtime(_log)
        self._plan = self._runtime.deserialize_cuda_engine(artefact.file("model.plan").read_bytes())
        if self._plan is None:
            made_with = artefact.facts.details.get("tensorrt", "another version")
            raise ArtefactError(
                f"{artefact.path} does not load: it was built with TensorRT {made_with} for one kind of GPU, here is "
                f"{trt.__version__}; export the model again on this machine"
            )
        self._names = [self._plan.get_tensor_name(i) for i in range(self._plan.num_io_tensors)]
        self._idle: deque[_Lane] = deque()

    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """Segment images (B, H, W, 3) uint8 RGB of one size; see `Engine.run`."""
        check_images(images, outputs)
        working = size_seen(self._artefact, (images.shape[1], images.shape[2]), rescale)
        if not outputs:
            return {}
        most = self._refuse_outside(images.shape, working)
        # The device is a property of each thread.
        _check(cuda.cudaSetDevice(self._number), f"use {self.device}")
        names = sorted(set(outputs))
        parts = [self._run(images[start : start + most], working, names) for start in range(0, len(images), most)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _run(
        self, images: npt.NDArray[np.uint8], working: tuple[int, int], names: Sequence[Output]
    ) -> dict[Output, npt.NDArray[Any]]:
        feeds: dict[str, npt.NDArray[Any]] = {_IMAGE: np.ascontiguousarray(images)}
        if _WORKING_SIZE in self._names:
            feeds[_WORKING_SIZE] = np.array(working, np.int64)
        with self._lane() as lane:
            return lane.run(feeds, names)

    def _refuse_outside(self, shape: Sequence[int], working: tuple[int, int]) -> int:
        """How many images of (B, H, W, 3) run at once."""
        least, _, greatest = self._plan.get_tensor_profile_shape(_IMAGE, 0)
        bounds = {"images": (tuple(shape[1:3]), tuple(least[1:3]), tuple(greatest[1:3]))}
        # Not asked of the plan: how that is done differs between versions of TensorRT.
        if seen := self._artefact.facts.details.get("working_sizes"):
            bounds["images that the network sees at"] = working, *seen
        for what, (size, low, high) in bounds.items():
            if not all(a <= side <= b for a, side, b in zip(low, size, high, strict=True)):
                raise EngineError(
                    f"{self._artefact.path} takes {what} {_name(low)} to {_name(high)} px, not {_name(size)}: resize "
                    "them, see them in smaller windows (max_pixels, window), or export the model with --size"
                )
        return int(greatest[0])

    @contextmanager
    def _lane(self) -> Iterator["_Lane"]:
        try:
            lane = self._idle.pop()  # atomic
        except IndexError:
            lane = _Lane(self._plan, self._names)
        yield lane
        self._idle.append(lane)  # not after an error, which may have left it in any state


class _Lane:
    """A context with its stream and buffers; it has one user at a time."""

    def __init__(self, plan: trt.ICudaEngine, names: Sequence[str]) -> None:
        self._plan = plan
        self._names = names
        self._context = plan.create_execution_context()
        if self._context is None:
            raise EngineError("TensorRT has no memory for another context; run fewer threads, or smaller images")
        (self._stream,) = _check(cuda.cudaStreamCreate(), "make a stream")
        self._buffers: dict[str, tuple[int, int]] = {}
        """Address and size in bytes, by name of the tensor."""

    def __del__(self) -> None:
        for address, _ in getattr(self, "_buffers", {}).values():
            cuda.cudaFree(address)
        if hasattr(self, "_stream"):
            cuda.cudaStreamDestroy(self._stream)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Sequence[Output]) -> dict[Output, npt.NDArray[Any]]:
        for name, values in feeds.items():
            self._set_input(name, values)
        if missing := self._context.infer_shapes():
            raise EngineError(f"TensorRT does not know the shapes of outputs: {', '.join(missing)} is not set")
        found = {name: self._set_output(name) for name in self._names if name not in feeds}
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError("TensorRT could not run the network; its messages are above")
        down = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for name in outputs:
            values = found[name]
            _check(
                cuda.cudaMemcpyAsync(values.ctypes.data, self._buffers[name][0], values.nbytes, down, self._stream),
                f"copy {name}",
            )
        _check(cuda.cudaStreamSynchronize(self._stream), "run the network")
        return {name: found[name] for name in outputs}

    def _set_input(self, name: str, values: npt.NDArray[Any]) -> None:
        if not self._context.set_input_shape(name, values.shape):
            raise EngineError(f"TensorRT does not take '{name}' of shape {values.shape}; its messages are above")
        if self._plan.get_tensor_location(name) == trt.TensorLocation.HOST:  # its values are shapes
            self._context.set_tensor_address(name, values.ctypes.data)
            return
        address = self._buffer(name, values.nbytes)
        up = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        _check(cuda.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, up, self._stream), f"copy {name}")

    def _set_output(self, name: str) -> npt.NDArray[Any]:
        shape = tuple(self._context.get_tensor_shape(name))
        values = np.empty(shape, trt.nptype(self._plan.get_tensor_dtype(name)))
        self._buffer(name, values.nbytes)
        return values

    def _buffer(self, name: str, size: int) -> int:
        address, there = self._buffers.get(name, (0, 0))
        if there < size:
            if there:
                _check(cuda.cudaFree(self._buffers.pop(name)[0]), "free memory")
            (address,) = _check(cuda.cudaMalloc(size), f"get {size} bytes on the GPU")
            self._buffers[name] = address, size
        self._context.set_tensor_address(name, address)
        return address


def _name(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _pick_device(name: str) -> int:
    if not re.fullmatch(r"auto|cuda(:\d+)?", name):
        raise EngineError(f"no device '{name}' for TensorRT; known: auto, cuda, cuda:N")
    number = int(name.partition(":")[2] or 0)
    error, count = cuda.cudaGetDeviceCount()
    if error != cuda.cudaError_t.cudaSuccess or number >= count:
        there = count if error == cuda.cudaError_t.cudaSuccess else 0
        raise EngineError(f"device '{name}' cannot be used here: CUDA finds {there} GPUs")
    return number


def _check(answer: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    error, *values = answer
    if error != cuda.cudaError_t.cudaSuccess:
        raise EngineError(f"CUDA could not {what}: {error.name}")
    return tuple(values)

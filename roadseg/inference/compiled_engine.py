"""The PyTorch engine of model files that are compiled by `torch.compile`.

The network is compiled for each shape in which it sees images, up to a bound. Compiled once for all shapes (dynamic
ones) it would be slower, take minutes to compile, and be compiled again all the same, for instance between sizes that
are whole patches and sizes that are not.
"""

import inspect
import logging
from threading import Lock
from typing import Any

import torch

from roadseg.errors import EngineError
from roadseg.inference.package import ModelFile
from roadseg.inference.torch_engine import NetworkRunner, network_of, pick_device

COMPILED_SHAPES = 6
"""So many are compiled; what comes in further ones runs eagerly, since nothing compiled can be given up again."""

_log = logging.getLogger("roadseg.inference")


class CompiledEngine(NetworkRunner):
    """Runs a model file's network, compiled; see `roadseg.inference.engines.Engine`.

    On a CPU images of a batch run one by one: that takes no longer, and batches need no compiling of their own.

    Args:
        model: the network and its weights.
        precision: "f32" or "bf16" (autocast).
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        EngineError: when the device is not there, or nothing can be compiled for it here.
        ModelFileError: when the weights do not fit the architecture in the file's header.
    """

    name = "torch-compile"
    special_sizes = COMPILED_SHAPES
    batches = True
    streams = 1

    def __init__(self, model: ModelFile, precision: str, device: str) -> None:
        picked = pick_device(device)
        _try_compiler(picked)
        network = CompiledNetwork(network_of(model).to(picked))
        super().__init__(network, model.header.short_side_px, precision, str(picked))


class CompiledNetwork:
    """A network that is compiled for the first shapes that it sees. Threads may share it.

    Args:
        network: (B, 3, h, w) float32 to logits (B, C, h, w).
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self._compiled = _compile(network)
        self._shapes: set[torch.Size] = set()
        self._lock = Lock()
        self._told = False

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits of images (B, 3, h, w), of any type."""
        batch = batch.float().contiguous()  # types and orders in memory would be compiled for, too
        if batch.device.type == "cpu" and len(batch) > 1:
            return torch.cat([self._run(image[None]) for image in batch])
        return self._run(batch)

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        network = self._compiled if batch.shape in self._shapes or self._learn(batch) else self._network
        logits: torch.Tensor = network(batch)
        return logits

    def _learn(self, batch: torch.Tensor) -> bool:
        """Compile for a shape, unless that was done or too many were; whether it is compiled now."""
        with self._lock:  # compiling takes all processors: one shape after the other
            if batch.shape in self._shapes:
                return True
            if len(self._shapes) == COMPILED_SHAPES:
                self._tell()
                return False
            try:
                self._compiled(batch)
            except Exception as error:  # compilers raise errors of many classes
                height, width = batch.shape[2:]
                raise EngineError(
                    f"torch.compile cannot compile the network for images of {height}x{width} px "
                    f"({_first_line(error)}); use engine 'torch'"
                ) from error
            self._shapes.add(batch.shape)
            return True

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            _log.warning(
                "images come in more than %d shapes: torch-compile compiled the network for the first ones, and runs "
                "the others eagerly; use engine 'torch' or 'openvino' for images of many sizes",
                COMPILED_SHAPES,
            )


def _compile(network: Any) -> Any:
    options: dict[str, Any] = {}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        # Engines in one process run the same code: without these they would share torch's bound of eight shapes.
        options = {"isolate_recompiles": True, "recompile_limit": 4 * COMPILED_SHAPES}
    return torch.compile(network, dynamic=False, **options)


def _try_compiler(device: torch.device) -> None:
    """Compile something small, which takes a few seconds once; better now than at the first image."""
    try:
        torch.compile(_something, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # compilers raise errors of many classes
        needs = "a C++ compiler (g++, or the one that CXX names)"
        if device.type == "cuda":
            needs = "Triton and a C compiler"
        raise EngineError(
            f"engine 'torch-compile' needs {needs} and the headers of Python, and cannot compile here "
            f"({_first_line(error)}); install them, or use engine 'torch'"
        ) from error


def _something(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

"""The PyTorch engine: a network, run eagerly."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from roadseg.errors import EngineError, ModelError, ModelFileError
from roadseg.inference.engines import Output, check_images, thread_count
from roadseg.inference.float32 import exact_float32
from roadseg.inference.package import ModelFile
from roadseg.inference.scale import working_size
from roadseg.models.segmenter import Segmenter
from roadseg.models.zoo import build_model, check_options
from roadseg.taxonomy import IGNORE_INDEX


class NetworkRunner:
    """Runs a network with PyTorch; see `roadseg.inference.engines.Engine`.

    Where `ROADSEG_THREADS` is set, PyTorch gets so many threads on the CPU. It knows one number only: it holds for all
    that the process does with PyTorch.

    Args:
        network: (B, 3, h, w) RGB in 0..255, uint8 or float32, to logits (B, C, h, w); on the device.
        short_side_px: at which it sees images; None for their own size.
        precision: "f32" or "bf16" (autocast).
        device: of the network.
    """

    name = "torch"
    special_sizes = 0
    batches = True
    streams = 1

    def __init__(
        self, network: Callable[[torch.Tensor], torch.Tensor], short_side_px: int | None, precision: str, device: str
    ) -> None:
        self.precision = precision
        self._device = torch.device(device)
        self.device = device
        self._short_side_px = short_side_px
        self._network = network
        if (threads := thread_count()) is not None:
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def run(
        self, images: npt.NDArray[np.uint8], outputs: Collection[Output], *, rescale: bool = True
    ) -> dict[Output, npt.NDArray[Any]]:
        """Segment images (B, H, W, 3) uint8 RGB of one size; see `Engine.run`."""
        check_images(images, outputs)
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2)
        size = (batch.shape[2], batch.shape[3])
        working = working_size(size, self._short_side_px) if rescale else size
        if working != size:
            batch = F.interpolate(batch.float(), working, mode="bilinear", antialias=min(working) < min(size))
        logits = self._logits(batch)
        results: dict[Output, torch.Tensor] = {"logits": logits} if "logits" in outputs else {}
        scores = logits
        if working != size and ("mask" in outputs or "confidence" in outputs):
            scores = F.interpolate(logits, size, mode="bilinear")
        if "mask" in outputs:
            results["mask"] = scores.argmax(1).to(torch.uint8)
        if "confidence" in outputs:
            results["confidence"] = scores.softmax(1).amax(1)
        _leave_out_not_finite(logits, results)
        return {name: result.cpu().numpy() for name, result in results.items()}

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        if self.precision == "f32":
            with exact_float32():
                return self._network(batch).float()
        with torch.autocast(self._device.type, torch.bfloat16):
            return self._network(batch).float()


def _leave_out_not_finite(logits: torch.Tensor, results: Mapping[Output, torch.Tensor]) -> None:
    """A network that gives NaN or infinity has said nothing of an image: 255 and NaN everywhere."""
    if "mask" not in results and "confidence" not in results:
        return
    broken = ~logits.sum((1, 2, 3)).isfinite()  # one such value makes the sum one
    if not broken.any():
        return
    if "mask" in results:
        results["mask"][broken] = IGNORE_INDEX
    if "confidence" in results:
        results["confidence"][broken] = torch.nan


class TorchEngine(NetworkRunner):
    """Runs a model file's network, eagerly.

    Args:
        model: the network and its weights.
        precision: "f32" or "bf16" (autocast).
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        EngineError: when the device is not there.
        ModelFileError: when the weights do not fit the architecture in the file's header.
    """

    def __init__(self, model: ModelFile, precision: str, device: str) -> None:
        picked = pick_device(device)
        super().__init__(network_of(model).to(picked), model.header.short_side_px, precision, str(picked))


def pick_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is the first CUDA device, else the CPU.

    Raises:
        EngineError: when there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise EngineError(f"no device '{name}'; known: auto, cpu, cuda, cuda:N")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EngineError(f"device '{name}' cannot be used here ({reason}); use 'auto' or 'cpu'") from error
    return device


def network_of(model: ModelFile) -> Segmenter:
    """Build a model file's network, with its weights, in evaluation mode.

    Raises:
        ModelFileError: when header and weights do not fit each other.
    """
    header = model.header
    if len(header.taxonomy) != header.architecture.num_classes:
        raise ModelFileError(
            f"{model.path}: the taxonomy has {len(header.taxonomy)} classes, the network "
            f"{header.architecture.num_classes}; package it again"
        )
    try:
        architecture = header.architecture
        check_options(architecture.backbone, architecture.decoder, architecture.backbone_options, architecture.options)
        with torch.device("meta"):  # no memory and no random weights before the shapes have been compared
            network = build_model(
                architecture.backbone,
                architecture.decoder,
                architecture.num_classes,
                backbone_options=architecture.backbone_options,
                mean=header.mean,
                std=header.std,
                **architecture.options,
            )
    except (ModelError, TypeError) as error:
        raise ModelFileError(f"{model.path}: this roadseg cannot build its network: {error}") from error
    _load_weights(network, {k: torch.from_numpy(np.array(v)) for k, v in model.tensors.items()}, str(model.path))
    _check_normalisation(network, model)
    return network.eval()


def _load_weights(network: Segmenter, weights: Mapping[str, torch.Tensor], source: str) -> None:
    wanted = network.state_dict()
    missing, extra = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or extra:
        raise ModelFileError(
            f"{source}: the weights do not fit the network in its header: {len(missing)} missing "
            f"(first {missing[:2]}), {len(extra)} unknown (first {extra[:2]}); package it again"
        )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape or tensor.is_floating_point() != wanted[name].is_floating_point():
            raise ModelFileError(
                f"{source}: weight '{name}' has shape {tuple(tensor.shape)} of {tensor.dtype}, the network needs "
                f"{tuple(wanted[name].shape)} of {wanted[name].dtype}; package it again"
            )
    network.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in weights.items()}, assign=True)


def _check_normalisation(network: Segmenter, model: ModelFile) -> None:
    """Header and weights both carry the normalisation; a file in which they differ has been tampered with."""
    for name, said in (("mean", model.header.mean), ("std", model.header.std)):
        held = network.get_buffer(name).flatten()
        if not torch.allclose(held, torch.tensor(said), rtol=1e-3):
            raise ModelFileError(
                f"{model.path}: the header says {name} {list(said)}, the weights {held.tolist()}; package it again"
            )

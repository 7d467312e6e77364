"""The PyTorch engine: a model file's network, run eagerly."""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from roadseg.errors import EngineError, ModelError, ModelFileError
from roadseg.inference.package import ModelFile
from roadseg.models.segmenter import Segmenter
from roadseg.models.zoo import build_model, check_options

MAX_ASPECT = 8
"""Images longer than this times their width are enlarged to the inference scale by their long side."""


class TorchEngine:
    """Runs a model file's network with PyTorch; see `roadseg.inference.engines.Engine`.

    Args:
        model: the network and its weights.
        precision: "f32" or "bf16" (autocast).
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        EngineError: when the device is not there.
        ModelFileError: when the weights do not fit the architecture in the file's header.
    """

    name = "torch"

    def __init__(self, model: ModelFile, precision: str, device: str) -> None:
        self.precision = precision
        self._device = pick_device(device)
        self.device = str(self._device)
        self._short_side_px = model.header.short_side_px
        self._network = network_of(model).to(self._device)

    @torch.inference_mode()
    def run(
        self, images: npt.NDArray[np.uint8], *, confidence: bool
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
        """Segment images (B, H, W, 3) uint8 RGB of one size; see `Engine.run`."""
        batch = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self._logits(batch).float()
        mask = logits.argmax(1).to(torch.uint8).cpu().numpy()
        if not confidence:
            return mask, None
        return mask, logits.softmax(1).amax(1).cpu().numpy()

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (B, C, H, W) at the size of `batch` (B, 3, H, W), computed at the model's inference scale."""
        size = (batch.shape[2], batch.shape[3])
        working = working_size(size, self._short_side_px)
        if working == size:
            return self._network(batch)
        resized = F.interpolate(batch.float(), working, mode="bilinear", antialias=min(working) < min(size))
        return F.interpolate(self._network(resized), size, mode="bilinear")


def working_size(size: tuple[int, int], short_side_px: int | None) -> tuple[int, int]:
    """(H, W) at which the network sees an image of (H, W) px: its own, or that with the short side asked for."""
    if short_side_px is None or min(size) == short_side_px:
        return size
    # A sliver would grow without bound: at most so that its long side reaches what an ordinary image's would.
    scale = min(short_side_px / min(size), max(1.0, MAX_ASPECT * short_side_px / max(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


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

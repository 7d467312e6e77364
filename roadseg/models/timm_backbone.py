"""Backbones from timm: the same contract for all, any image size, and timm's own parameter names."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.layers.halo_attn import HaloAttn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from roadseg.errors import ModelError
from roadseg.models.halonet import PaddedHaloAttention
from roadseg.models.padding import SIZE_MULTIPLE, ceil_divide, crop_image, pad_image
from roadseg.models.swin_peg import Position, take_any_size


@dataclass(frozen=True)
class _Family:
    """How the networks of one of timm's modules are made.

    Attributes:
        options: what `timm.create_model` is given.
        dilation: what it is given besides `output_stride` to dilate the last stage, or None where that is not possible.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    dilation: Mapping[str, Any] | None = None


_FAMILIES: Mapping[str, _Family] = {
    "resnet": _Family(dilation={}),
    "convnext": _Family(dilation={}),
    # timm dilates only its feature extractor, which has the network's names.
    "mobilenetv3": _Family(dilation={"features_only": True}),
    "efficientnet": _Family(dilation={"features_only": True}),  # timm's module of MobileNetV2
    # timm would leave out the stride alone: attention has no dilation to make up for it.
    "byoanet": _Family(),
    "pvt_v2": _Family(),
    "swin_transformer": _Family({"strict_img_size": False}),
}
"""Networks whose modules lie in the order in which they are used; this is what the extraction of features relies on."""


class TimmBackbone(nn.Module):
    """A timm network up to its last feature.

    The state dict has the keys of timm's full network, without those of the parts that no feature passes through: final
    norms and classifiers. Images are padded at the right and bottom with their last row and column.

    Args:
        timm_name: of the network, for example "resnet50", "pvt_v2_b2", "swin_tiny_patch4_window7_224", "halonet50ts",
            "convnext_tiny", "mobilenetv2_100".
        drop_path_rate: stochastic depth of the last block in training; earlier blocks have proportionally less.
        output_stride: 32, or 16 for a last stage that is dilated instead of strided.
        position: of Swin only: "peg" replaces its relative position biases by positional encoding generators
            (arXiv 2102.10882), as the authors of Twins tried (arXiv 2104.13840).

    Attributes:
        out_channels: channels of the four features.

    Raises:
        ModelError: when timm has no such network or it does not fit, or an option is wrong.
    """

    def __init__(
        self,
        timm_name: str,
        *,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        position: Position = "relative_bias",
    ) -> None:
        super().__init__()
        model = _create(timm_name, drop_path_rate, output_stride)
        taps = _taps(model, timm_name, output_stride)
        self.out_channels: list[int] = [tap["num_chs"] for tap in taps]
        self.grad_checkpointing = False
        self._strides = (4, 8, 16, output_stride)
        self._taps: list[str] = [tap["module"] for tap in taps]
        self._steps = _steps(model, self._taps)
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._adopt(model)
        if _family(timm_name) == "swin_transformer":
            take_any_size(self.layers, position)  # type: ignore[arg-type]  # timm's stages
        elif position != "relative_bias":
            raise ModelError(
                f"position is '{position}', an option of Swin that '{timm_name}' does not have; leave it out"
            )
        for module in self.modules():
            if type(module) is HaloAttn:  # the subclass has the same parameters and differs in what it takes
                module.__class__ = PaddedHaloAttention

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of a normalised image.

        Args:
            image: (B, 3, H, W), any H and W from 1.

        Returns:
            Four features (B, out_channels[i], ceil(H / stride), ceil(W / stride)) at strides 4, 8, 16 and
            `output_stride`.
        """
        height, width = image.shape[-2:]
        maps = pad_image(image, SIZE_MULTIPLE)  # so that no stage drops an edge
        found = []
        for step in self._steps:
            maps = self._run(self.get_submodule(step), maps)
            if step in self._taps:
                found.append(maps.permute(0, 3, 1, 2) if self._channels_last else maps)
        return [
            crop_image(feature, ceil_divide(height, stride), ceil_divide(width, stride))
            for feature, stride in zip(found, self._strides, strict=True)
        ]

    @property
    def steps_by_feature(self) -> list[list[str]]:
        """Names of the modules that lead to the first feature, and from each to the next, the feature's own last."""
        ends = [self._steps.index(tap) + 1 for tap in self._taps]
        return [self._steps[start:end] for start, end in pairwise([0, *ends])]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the blocks' inputs for the backward pass and compute the rest again: less memory, more time.

        Batch norms see each batch twice then, and move their running means a little faster.
        """
        for module in self.modules():
            if hasattr(module, "grad_checkpointing"):  # ours and that of timm's stages
                module.grad_checkpointing = enable  # type: ignore[assignment]  # not a parameter

    def _run(self, module: nn.Module, maps: Tensor) -> Tensor:
        if not (self.grad_checkpointing and torch.is_grad_enabled() and type(module) is nn.Sequential):
            return module(maps)  # stages that are more than a sequence have a switch of their own
        for block in module:
            maps = checkpoint(block, maps, use_reentrant=False)
        return maps

    def _adopt(self, model: nn.Module) -> None:
        """Take over the modules of the steps under their names, without a prefix."""
        for name, child in model.named_children():
            inside = [step.partition(".")[2] for step in self._steps if step.startswith(f"{name}.")]
            if inside:
                self.add_module(name, nn.Sequential(OrderedDict((key, child.get_submodule(key)) for key in inside)))
            elif name in self._steps:
                self.add_module(name, child)


def timm_shapes(timm_name: str) -> dict[str, torch.Size]:
    """Keys and shapes of the state dict of timm's full network, classifier and all; no memory is taken for it.

    Raises:
        ModelError: when timm has no such network, or not one that works here.
    """
    _family(timm_name)
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in timm.create_model(timm_name).state_dict().items()}


def _family(timm_name: str) -> str:
    """The module of timm that a network is from."""
    if not timm.is_model(timm_name):
        raise ModelError(f"timm {timm.__version__} has no network '{timm_name}'; timm.list_models() has all names")
    family = timm.model_entrypoint(timm_name).__module__.rpartition(".")[2]
    if family not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise ModelError(f"'{timm_name}' is from timm's '{family}', which is not known to work; use one from {known}")
    return family


def _create(timm_name: str, drop_path_rate: float, output_stride: int) -> nn.Module:
    """Make timm's network, with random weights."""
    family = _FAMILIES[_family(timm_name)]
    options = {"drop_path_rate": drop_path_rate, **family.options}
    if output_stride == 32:
        return timm.create_model(timm_name, **options)
    if output_stride != 16:
        raise ModelError(f"output_stride is {output_stride}; use 16 or 32")
    if family.dilation is None:
        raise ModelError(
            f"the last stage of '{timm_name}' cannot be dilated; use output_stride 32, or a convolutional net"
        )
    return timm.create_model(timm_name, output_stride=output_stride, **options, **family.dilation)


def _taps(model: nn.Module, timm_name: str, output_stride: int) -> list[dict[str, Any]]:
    """The last four rows of timm's table of features: `num_chs`, `reduction` and `module`."""
    table: Any = getattr(model.feature_info, "info", model.feature_info)
    taps = list(table)[-4:]
    strides = [tap["reduction"] for tap in taps]
    if strides != [4, 8, 16, output_stride]:
        raise ModelError(f"'{timm_name}' has features at strides {strides}; use a network that has 4, 8, 16 and 32")
    return taps


def _steps(model: nn.Module, taps: list[str]) -> list[str]:
    """Names of the modules that lead from the image to the last feature, in their order."""
    steps: list[str] = []
    for name, child in model.named_children():
        inside = any(tap.startswith(f"{name}.") for tap in taps)
        steps += [f"{name}.{key}" for key, _ in child.named_children()] if inside else [name]
    return steps[: steps.index(taps[-1]) + 1]

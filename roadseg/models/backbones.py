"""Backbones: an image in, four feature maps at strides 4, 8, 16 and 32 out.

A backbone is an `nn.Module` that takes normalised images (B, 3, H, W), H and W multiples of 32, returns a list of four
NCHW features, and has `out_channels`, their channel counts. Its state-dict keys are timm's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import timm
import torch
from timm.models.twins import Twins
from torch import Tensor, nn

from roadseg.errors import ModelError


class Backbone(Protocol):
    """What a decoder relies on."""

    out_channels: list[int]

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Features (B, out_channels[i], H / 2**(i + 2), W / 2**(i + 2)), i = 0..3."""
        ...


class TwinsBackbone(Twins):
    """Twins (arXiv 2104.13840) without its classifier, on timm's implementation and with timm's parameter names.

    timm's own feature extractor prefixes every key and keeps the final norm, which no feature passes through and which
    would then never get a gradient.

    Args:
        drop_path_rate: stochastic depth of the last block; earlier blocks have proportionally less.
        sizes: `embed_dims`, `num_heads`, `depths`, `sr_ratios` and `wss` (window sizes) as timm names them.
    """

    def __init__(self, drop_path_rate: float = 0.0, **sizes: Any) -> None:
        super().__init__(num_classes=0, drop_path_rate=drop_path_rate, **sizes)
        self.norm = nn.Identity()
        self.out_channels = list(sizes["embed_dims"])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of a normalised image (B, 3, H, W); H and W are multiples of 32."""
        return self.forward_intermediates(image, intermediates_only=True)


@dataclass(frozen=True)
class TwinsSpec:
    """How to make a Twins backbone.

    Attributes:
        sizes: keyword arguments of `TwinsBackbone`.
        timm_name: the timm model with the same weights, or None where there is none.
    """

    sizes: Mapping[str, Any]
    timm_name: str | None
    dilatable: bool = False

    def build(self, *, drop_path_rate: float, output_stride: int, pretrained: bool) -> nn.Module:
        """Make the backbone; `output_stride` is 32, as the zoo has checked."""
        backbone = TwinsBackbone(drop_path_rate, **self.sizes)
        if pretrained:
            _load_pretrained(backbone, self.timm_name)
        return backbone


@dataclass(frozen=True)
class TimmSpec:
    """How to make a backbone from a timm convolutional network."""

    timm_name: str
    dilatable: bool = True

    def build(self, *, drop_path_rate: float, output_stride: int, pretrained: bool) -> nn.Module:
        """Make the backbone; at `output_stride` 16 its last stage is dilated instead of strided."""
        backbone = timm.create_model(
            self.timm_name,
            features_only=True,
            out_indices=(1, 2, 3, 4),
            output_stride=output_stride,
            drop_path_rate=drop_path_rate,
        )
        backbone.out_channels = backbone.feature_info.channels()
        if pretrained:
            _load_pretrained(backbone, self.timm_name)
        return backbone


def _twins_svt(embed_dims: tuple[int, ...], num_heads: tuple[int, ...], depths: tuple[int, ...]) -> dict[str, Any]:
    return {
        "embed_dims": embed_dims,
        "num_heads": num_heads,
        "depths": depths,
        "sr_ratios": (8, 4, 2, 1),
        "wss": (7, 7, 7, 7),
    }


def _twins_pcpvt(depths: tuple[int, ...]) -> dict[str, Any]:
    return {
        "embed_dims": (64, 128, 320, 512),
        "num_heads": (1, 2, 5, 8),
        "mlp_ratios": (8, 8, 4, 4),
        "depths": depths,
        "sr_ratios": (8, 4, 2, 1),
    }


BACKBONES: Mapping[str, TwinsSpec | TimmSpec] = {
    # Ours: the SVT pattern at a size that trains on a laptop.
    "twins_svt_nano": TwinsSpec(_twins_svt((32, 64, 160, 256), (1, 2, 5, 8), (2, 2, 6, 2)), None),
    # The paper's tables 1 and 2.
    "twins_svt_small": TwinsSpec(_twins_svt((64, 128, 256, 512), (2, 4, 8, 16), (2, 2, 10, 4)), "twins_svt_small"),
    "twins_svt_base": TwinsSpec(_twins_svt((96, 192, 384, 768), (3, 6, 12, 24), (2, 2, 18, 2)), "twins_svt_base"),
    "twins_svt_large": TwinsSpec(_twins_svt((128, 256, 512, 1024), (4, 8, 16, 32), (2, 2, 18, 2)), "twins_svt_large"),
    "twins_pcpvt_small": TwinsSpec(_twins_pcpvt((3, 4, 6, 3)), "twins_pcpvt_small"),
    "twins_pcpvt_base": TwinsSpec(_twins_pcpvt((3, 4, 18, 3)), "twins_pcpvt_base"),
    "twins_pcpvt_large": TwinsSpec(_twins_pcpvt((3, 8, 27, 3)), "twins_pcpvt_large"),
    # Peers.
    "resnet18": TimmSpec("resnet18"),
    "resnet34": TimmSpec("resnet34"),
    "resnet50": TimmSpec("resnet50"),
    "resnet101": TimmSpec("resnet101"),
}


def _load_pretrained(backbone: nn.Module, timm_name: str | None) -> None:
    """Load timm's ImageNet weights; the classifier's are left out.

    Raises:
        ModelError: when timm has none, or they cannot be fetched.
    """
    if timm_name is None:
        raise ModelError("no ImageNet weights exist for this backbone; set pretrained to false")
    try:
        weights = timm.create_model(timm_name, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises many kinds, none of them promised
        raise ModelError(
            f"the ImageNet weights of {timm_name} could not be fetched ({type(error).__name__}: {error}); go online "
            "once so that they are cached, or set pretrained to false"
        ) from error
    wanted = backbone.state_dict()
    with torch.no_grad():
        backbone.load_state_dict({name: weights[name] for name in wanted})

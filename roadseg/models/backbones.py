"""The backbones: an image in, feature maps at strides 4, 8, 16 and 32 out. One dict a family.

A backbone is an `nn.Module` that takes normalised images (B, 3, H, W) of any size, returns a list of four NCHW features
whose sides are rounded up, and has `out_channels`, their channel counts, and `set_grad_checkpointing`. A Twins whose
`stem` is "detail" has a feature of stride 2 before the four.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import timm
import torch
from torch import Tensor, nn

from roadseg.models.halonet import HALONETS as HALONET_SIZES
from roadseg.models.halonet import HaloNet, HaloNetSizes
from roadseg.models.timm_backbone import TimmBackbone, timm_shapes
from roadseg.models.twins import Twins, TwinsOptions


@dataclass(frozen=True)
class PublicWeights:
    """Weights that somebody published.

    Attributes:
        hub_name: repository on the model hub.
        licence: of the weights, as their publisher states it.
    """

    hub_name: str
    licence: str


class BackboneSpec(Protocol):
    """How to make a backbone."""

    @property
    def public(self) -> PublicWeights | None:
        """Published weights, or None."""
        ...

    @property
    def option_names(self) -> tuple[str, ...]:
        """What `options` may hold."""
        ...

    @property
    def dilatable(self) -> bool:
        """Whether `output_stride` may be 16."""
        ...

    @property
    def classifies(self) -> bool:
        """Whether `num_classes` may be above 0."""
        ...

    def build(
        self,
        *,
        num_classes: int = 0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """Make the backbone; `weights` have the names and shapes of its state dict."""
        ...

    def optional(self, names: Collection[str]) -> tuple[str, ...]:
        """Prefixes of weights that a file may lack, or that may be in it without a place here.

        Args:
            names: of the weights that the backbone has.
        """
        ...


@dataclass(frozen=True)
class OwnSpec:
    """A backbone of this project, with a classifier where one is wanted.

    Attributes:
        make: takes options, drop_path_rate and num_classes.
    """

    make: Callable[[Mapping[str, Any], float, int], nn.Module]
    classifier_prefixes: tuple[str, ...]
    option_names: tuple[str, ...] = ()
    public: PublicWeights | None = None
    dilatable: bool = False
    classifies: bool = True

    def build(
        self,
        *,
        num_classes: int = 0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """Make the backbone; its output stride is 32, as the zoo has checked."""
        return _loaded(self.make(options or {}, drop_path_rate, num_classes), weights)

    def optional(self, names: Collection[str]) -> tuple[str, ...]:
        """The classifier."""
        return self.classifier_prefixes


@dataclass(frozen=True)
class TimmSpec:
    """A network of timm."""

    timm_name: str
    dilatable: bool = False
    option_names: tuple[str, ...] = ()
    classifies: bool = False

    @property
    def public(self) -> PublicWeights | None:
        """The weights that timm's configuration names."""
        config = timm.get_pretrained_cfg(self.timm_name)
        if config is None or not config.hf_hub_id or not config.license:
            return None
        return PublicWeights(config.hf_hub_id, config.license)

    def build(
        self,
        *,
        num_classes: int = 0,
        drop_path_rate: float = 0.0,
        output_stride: int = 32,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> nn.Module:
        """Make the backbone."""
        backbone = TimmBackbone(
            self.timm_name, drop_path_rate=drop_path_rate, output_stride=output_stride, **(options or {})
        )
        return _loaded(backbone, weights)

    def optional(self, names: Collection[str]) -> tuple[str, ...]:
        """What only timm's whole network has, such as its classifier, and what an option has added."""
        return tuple(set(timm_shapes(self.timm_name)) ^ set(names))


def _loaded(backbone: nn.Module, weights: Mapping[str, Tensor] | None) -> nn.Module:
    if weights is not None:  # what is missing keeps its initial values; that this may be, has been checked
        backbone.load_state_dict(dict(weights), strict=False)
    return backbone


def shapes_of(spec: BackboneSpec, num_classes: int, options: Mapping[str, Any] | None) -> dict[str, torch.Size]:
    """Names and shapes of a backbone's weights, without memory for them."""
    with torch.device("meta"):
        backbone = spec.build(num_classes=num_classes, options=options)
    return {name: tensor.shape for name, tensor in backbone.state_dict().items()}


def _twins(sizes: TwinsOptions, public_name: str | None = None) -> OwnSpec:
    def make(options: Mapping[str, Any], drop_path_rate: float, num_classes: int) -> nn.Module:
        varied = TwinsOptions.of(**{**asdict(sizes), **options})
        return Twins(varied, drop_path_rate=drop_path_rate, num_classes=num_classes)

    public = PublicWeights(f"timm/{public_name}.in1k", "apache-2.0") if public_name else None
    return OwnSpec(make, ("norm.", "head."), tuple(TwinsOptions.__dataclass_fields__), public)


def _svt(
    embed_dims: tuple[int, ...], num_heads: tuple[int, ...], depths: tuple[int, ...], public_name: str | None = None
) -> OwnSpec:
    return _twins(TwinsOptions(embed_dims=embed_dims, num_heads=num_heads, depths=depths), public_name)


def _pcpvt(depths: tuple[int, ...], public_name: str) -> OwnSpec:
    sizes = TwinsOptions(
        embed_dims=(64, 128, 320, 512),
        num_heads=(1, 2, 5, 8),
        depths=depths,
        mlp_ratios=(8, 8, 4, 4),
        pattern=("G",) * 4,
    )
    return _twins(sizes, public_name)


def _halonet(sizes: HaloNetSizes) -> OwnSpec:
    def make(options: Mapping[str, Any], drop_path_rate: float, num_classes: int) -> nn.Module:
        return HaloNet(sizes, num_classes=num_classes, drop_path_rate=drop_path_rate)

    return OwnSpec(make, ("final_conv.", "head."))


TWINS: Mapping[str, OwnSpec] = {
    # Ours: the SVT pattern at a size that trains on a laptop.
    "twins_svt_nano": _svt((32, 64, 160, 256), (1, 2, 5, 8), (2, 2, 6, 2)),
    # The paper's tables 1 and 2.
    "twins_svt_small": _svt((64, 128, 256, 512), (2, 4, 8, 16), (2, 2, 10, 4), "twins_svt_small"),
    "twins_svt_base": _svt((96, 192, 384, 768), (3, 6, 12, 24), (2, 2, 18, 2), "twins_svt_base"),
    "twins_svt_large": _svt((128, 256, 512, 1024), (4, 8, 16, 32), (2, 2, 18, 2), "twins_svt_large"),
    "twins_pcpvt_small": _pcpvt((3, 4, 6, 3), "twins_pcpvt_small"),
    "twins_pcpvt_base": _pcpvt((3, 4, 18, 3), "twins_pcpvt_base"),
    "twins_pcpvt_large": _pcpvt((3, 8, 27, 3), "twins_pcpvt_large"),
}
HALONET: Mapping[str, OwnSpec] = {name: _halonet(sizes) for name, sizes in HALONET_SIZES.items()}
TIMM_HALONET: Mapping[str, TimmSpec] = {
    "halonet26t": TimmSpec("halonet26t"),
    "halonet50ts": TimmSpec("halonet50ts"),
}
RESNET: Mapping[str, TimmSpec] = {
    "resnet18": TimmSpec("resnet18", dilatable=True),
    "resnet34": TimmSpec("resnet34", dilatable=True),
    "resnet50": TimmSpec("resnet50", dilatable=True),
    "resnet101": TimmSpec("resnet101", dilatable=True),
}
PVT: Mapping[str, TimmSpec] = {
    "pvt_v2_b0": TimmSpec("pvt_v2_b0"),
    "pvt_v2_b1": TimmSpec("pvt_v2_b1"),
    "pvt_v2_b2": TimmSpec("pvt_v2_b2"),
    "pvt_v2_b3": TimmSpec("pvt_v2_b3"),
    "pvt_v2_b4": TimmSpec("pvt_v2_b4"),
    "pvt_v2_b5": TimmSpec("pvt_v2_b5"),
}
SWIN: Mapping[str, TimmSpec] = {
    "swin_tiny": TimmSpec("swin_tiny_patch4_window7_224", option_names=("position",)),
    "swin_small": TimmSpec("swin_small_patch4_window7_224", option_names=("position",)),
    "swin_base": TimmSpec("swin_base_patch4_window7_224", option_names=("position",)),
}
CONVNEXT: Mapping[str, TimmSpec] = {
    "convnext_tiny": TimmSpec("convnext_tiny", dilatable=True),
    "convnext_small": TimmSpec("convnext_small", dilatable=True),
    "convnext_base": TimmSpec("convnext_base", dilatable=True),
}
MOBILENET: Mapping[str, TimmSpec] = {
    "mobilenetv2_100": TimmSpec("mobilenetv2_100", dilatable=True),
    "mobilenetv3_large_100": TimmSpec("mobilenetv3_large_100", dilatable=True),
    "mobilenetv4_conv_small": TimmSpec("mobilenetv4_conv_small", dilatable=True),
    "mobilenetv4_conv_medium": TimmSpec("mobilenetv4_conv_medium", dilatable=True),
}
FAMILIES: tuple[Mapping[str, BackboneSpec], ...] = (
    TWINS,
    PVT,
    SWIN,
    HALONET,
    TIMM_HALONET,
    RESNET,
    CONVNEXT,
    MOBILENET,
)
BACKBONES: Mapping[str, BackboneSpec] = {name: spec for family in FAMILIES for name, spec in family.items()}

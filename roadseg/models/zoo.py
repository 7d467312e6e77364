"""The only place where names become modules."""

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from roadseg.errors import ModelError
from roadseg.models.backbones import BACKBONES, BackboneSpec, shapes_of
from roadseg.models.decoders.linear_concat import LinearConcatDecoder
from roadseg.models.decoders.smp import deeplabv3plus, fpn, upernet
from roadseg.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Classifier, Segmenter
from roadseg.models.weights import LoadReport, match_weights, read_weights


@dataclass(frozen=True)
class DecoderSpec:
    """How to make a decoder.

    Attributes:
        build: takes (in_channels, num_classes, **options).
        output_stride: of the backbone's last feature; 16 needs a backbone that can be dilated.
    """

    build: Callable[..., nn.Module]
    output_stride: int = 32

    @property
    def options(self) -> list[str]:
        """Names of the options that `build` takes."""
        return [name for name in inspect.signature(self.build).parameters if name not in ("in_channels", "num_classes")]


DECODERS: Mapping[str, DecoderSpec] = {
    "linear_concat": DecoderSpec(LinearConcatDecoder),
    "fpn": DecoderSpec(fpn),
    "upernet": DecoderSpec(upernet),
    "deeplabv3plus": DecoderSpec(deeplabv3plus, output_stride=16),
}


def list_backbones() -> list[str]:
    """Names that `build_model` takes as backbone, sorted."""
    return sorted(BACKBONES)


def list_decoders() -> list[str]:
    """Names that `build_model` takes as decoder, sorted."""
    return sorted(DECODERS)


def check_options(
    backbone: str, decoder: str, backbone_options: Mapping[str, Any] | None, decoder_options: Mapping[str, Any] | None
) -> None:
    """Check that backbone and decoder have the options that a file or a user names.

    Raises:
        ModelError: when a name is unknown, or an option is; the message lists the known ones.
    """
    _check_names("backbone", backbone, _known("backbone", backbone, BACKBONES).option_names, backbone_options)
    _check_names("decoder", decoder, _known("decoder", decoder, DECODERS).options, decoder_options)


def build_model(
    backbone: str = "twins_svt_small",
    decoder: str = "linear_concat",
    num_classes: int = 19,
    *,
    drop_path_rate: float = 0.0,
    pretrained: bool | str = False,
    backbone_options: Mapping[str, Any] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    **options: Any,
) -> Segmenter:
    """Build a segmentation network.

    Args:
        backbone: one of `list_backbones()`.
        decoder: one of `list_decoders()`.
        num_classes: number of classes, 1 to 255.
        drop_path_rate: stochastic depth of the backbone's last block in training, 0 up to 1.
        pretrained: weights to start the backbone from: true for its published ImageNet weights, or a name on the hub,
            or a file (see `roadseg.models.weights`). What was loaded is `network.backbone.load_report`.
        backbone_options: variations of the backbone, for example `{"padding": "mask"}`.
        mean: of the RGB values, in 0..255.
        std: of the RGB values, in 0..255.
        options: of the decoder, for example `width=128`.

    Returns:
        A module from images (B, 3, H, W) RGB in 0..255, of any size, to logits (B, num_classes, H, W).

    Raises:
        ModelError: when a name or option is unknown, a value is out of range, the two parts do not fit, or weights
            cannot be had or do not fit.
    """
    check_options(backbone, decoder, backbone_options, options)
    decoder_spec = DECODERS[decoder]
    _check_count(num_classes, 1, 255)
    _check_normalisation(mean, std)
    reason = why_unfit(backbone, decoder)
    if reason:
        raise ModelError(reason)
    features = build_backbone(
        backbone,
        drop_path_rate=drop_path_rate,
        output_stride=decoder_spec.output_stride,
        pretrained=pretrained,
        options=backbone_options,
    )
    try:
        head = decoder_spec.build(features.out_channels, num_classes, **options)
    except (TypeError, ValueError, RuntimeError) as error:  # torch checks types, and finds no memory for huge widths
        raise ModelError(f"decoder '{decoder}' cannot be built with the options {options}: {error}") from error
    return Segmenter(features, head, num_classes, mean, std)


def build_classifier(
    backbone: str = "twins_svt_small",
    num_classes: int = 1000,
    *,
    drop_path_rate: float = 0.0,
    pretrained: bool | str = False,
    backbone_options: Mapping[str, Any] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Classifier:
    """Build an image classifier, to pretrain a backbone; arguments as for `build_model`.

    Returns:
        A module from images (B, 3, H, W) RGB in 0..255, of any size, to class logits (B, num_classes).

    Raises:
        ModelError: as for `build_model`; also when the backbone has no classifier here.
    """
    _check_count(num_classes, 1)
    _check_normalisation(mean, std)
    network = build_backbone(
        backbone,
        num_classes=num_classes,
        drop_path_rate=drop_path_rate,
        pretrained=pretrained,
        options=backbone_options,
    )
    return Classifier(network, num_classes, mean, std)


def build_backbone(
    name: str,
    *,
    num_classes: int = 0,
    drop_path_rate: float = 0.0,
    output_stride: int = 32,
    pretrained: bool | str = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a backbone alone: normalised images (B, 3, H, W) to features; arguments as for `build_model`.

    Args:
        name: one of `list_backbones()`.
        num_classes: of its classifier; 0 leaves the classifier out.
        drop_path_rate: stochastic depth of the last block.
        output_stride: of the last feature, 32, or 16 where the backbone can be dilated.
        pretrained: see `build_model`.
        options: variations of the backbone.

    Raises:
        ModelError: when a name, an option or a value is wrong, or weights cannot be had or do not fit.
    """
    spec = _known("backbone", name, BACKBONES)
    _check_names("backbone", name, spec.option_names, options)
    _check_count(num_classes, 0)
    _check_backbone(name, spec, num_classes, drop_path_rate, output_stride)
    weights, report = _weights(name, spec, num_classes, pretrained, options)
    try:
        backbone = spec.build(
            num_classes=num_classes,
            drop_path_rate=drop_path_rate,
            output_stride=output_stride,
            options=options,
            weights=weights,
        )
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # torch finds no memory for huge sizes
        raise ModelError(f"backbone '{name}' cannot be built with the options {options}: {error}") from error
    backbone.load_report = report
    return backbone


def _check_backbone(name: str, spec: BackboneSpec, num_classes: int, drop_path_rate: float, output_stride: int) -> None:
    if not isinstance(drop_path_rate, int | float) or not 0 <= drop_path_rate < 1:
        raise ModelError(f"drop_path_rate is {drop_path_rate!r}; use a value from 0 up to, but not, 1")
    if output_stride not in (16, 32) or (output_stride == 16 and not spec.dilatable):
        strides = "16 or 32" if spec.dilatable else "32"
        raise ModelError(f"output_stride is {output_stride!r}; backbone '{name}' has {strides}")
    if num_classes and not spec.classifies:
        fitting = ", ".join(name for name, other in sorted(BACKBONES.items()) if other.classifies)
        raise ModelError(f"backbone '{name}' has no classifier here, timm trains it; use {fitting}")


def why_unfit(backbone: str, decoder: str) -> str | None:
    """Why a backbone cannot be used under a decoder, or None where it can."""
    spec, needed = _known("backbone", backbone, BACKBONES), _known("decoder", decoder, DECODERS).output_stride
    if needed == 32 or spec.dilatable:
        return None
    fitting = ", ".join(name for name, other in sorted(BACKBONES.items()) if other.dilatable)
    return (
        f"decoder '{decoder}' needs a backbone whose last stage can be dilated, which attention stages cannot: "
        f"'{backbone}' does not fit; use {fitting}"
    )


def _weights(
    name: str, spec: BackboneSpec, num_classes: int, pretrained: bool | str, options: Mapping[str, Any] | None
) -> tuple[dict[str, Tensor] | None, LoadReport | None]:
    if pretrained is False:
        return None, None
    if not isinstance(pretrained, str | os.PathLike | bool):
        raise ModelError(f"pretrained is {pretrained!r}; use true, false, a name on the hub, or a file")
    if pretrained is True:
        if spec.public is None:
            raise ModelError(
                f"nobody has published ImageNet weights for '{name}'; give a file, or set pretrained to false"
            )
        pretrained = spec.public.hub_name
    shapes = shapes_of(spec, num_classes, options)
    return match_weights(read_weights(pretrained), shapes, source=str(pretrained), optional=spec.optional(shapes))


def _check_names(kind: str, name: str, known: Sequence[str], options: Mapping[str, Any] | None) -> None:
    if options is not None and not isinstance(options, Mapping):
        raise ModelError(f"the options of {kind} '{name}' are {options!r}; use names with values, {{name: value}}")
    for option in sorted(map(str, options or {})):
        if option not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ModelError(f"{kind} '{name}' has no option '{option}'; {has}")


def _check_count(num_classes: int, least: int, most: int | None = None) -> None:
    whole = isinstance(num_classes, int) and not isinstance(num_classes, bool)
    if not whole or num_classes < least or (most is not None and num_classes > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise ModelError(f"num_classes is {num_classes!r}; use {allowed}")


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for name, values, above in (("mean", mean, -math.inf), ("std", std, 0.0)):
        if len(values) != 3 or not all(above < value < math.inf for value in values):
            raise ModelError(f"{name} is {tuple(values)}; use three finite numbers, {name} of red, green and blue")


def _known(kind: str, name: str, names: Mapping[str, Any]) -> Any:
    if not isinstance(name, str) or name not in names:
        raise ModelError(f"no {kind} '{name}'; known: {', '.join(sorted(names))}")
    return names[name]

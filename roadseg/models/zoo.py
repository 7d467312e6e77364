"""The only place where names become modules."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from roadseg.errors import ModelError
from roadseg.models.backbones import BACKBONES
from roadseg.models.decoders.linear_concat import LinearConcatDecoder
from roadseg.models.decoders.smp import deeplabv3plus, fpn, upernet
from roadseg.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter


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


def check_decoder_options(decoder: str, options: Mapping[str, Any]) -> None:
    """Check that a decoder has the options that a file or a user names.

    Raises:
        ModelError: when the decoder is unknown, or an option is; the message lists the known ones.
    """
    known = _known("decoder", decoder, DECODERS).options
    unknown = sorted(set(map(str, options)) - set(known))
    if unknown:
        raise ModelError(f"decoder '{decoder}' has no option '{unknown[0]}'; it has {', '.join(known)}")


def build_model(
    backbone: str = "twins_svt_small",
    decoder: str = "linear_concat",
    num_classes: int = 19,
    *,
    drop_path_rate: float = 0.0,
    pretrained: bool = False,
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
        pretrained: start the backbone from timm's ImageNet weights.
        mean: of the RGB values, in 0..255.
        std: of the RGB values, in 0..255.
        options: of the decoder, for example `width=128`.

    Returns:
        A module from images (B, 3, H, W) RGB in 0..255, of any size, to logits (B, num_classes, H, W).

    Raises:
        ModelError: when a name or option is unknown, a value is out of range, or the two parts do not fit.
    """
    backbone_spec, decoder_spec = _known("backbone", backbone, BACKBONES), _known("decoder", decoder, DECODERS)
    check_decoder_options(decoder, options)
    if not 1 <= num_classes <= 255:
        raise ModelError(f"num_classes is {num_classes}; use 1 to 255")
    if not 0 <= drop_path_rate < 1:
        raise ModelError(f"drop_path_rate is {drop_path_rate}; use a value from 0 up to, but not, 1")
    if decoder_spec.output_stride < 32 and not backbone_spec.dilatable:
        fitting = ", ".join(name for name, spec in sorted(BACKBONES.items()) if spec.dilatable)
        raise ModelError(
            f"decoder '{decoder}' needs a backbone whose last stage can be dilated, which attention stages cannot: "
            f"'{backbone}' does not fit; use {fitting}"
        )
    features = backbone_spec.build(
        drop_path_rate=drop_path_rate, output_stride=decoder_spec.output_stride, pretrained=pretrained
    )
    try:
        head = decoder_spec.build(features.out_channels, num_classes, **options)
    except (TypeError, ValueError, RuntimeError) as error:  # torch checks types, and finds no memory for huge widths
        raise ModelError(f"decoder '{decoder}' cannot be built with the options {options}: {error}") from error
    return Segmenter(features, head, num_classes, mean, std)


def _known(kind: str, name: str, names: Mapping[str, Any]) -> Any:
    if name not in names:
        raise ModelError(f"no {kind} '{name}'; known: {', '.join(sorted(names))}")
    return names[name]

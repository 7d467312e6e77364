"""The tables of `roadseg models`: how large networks are, what they compute, and which weights they can start from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import torch
from torch import nn

from roadseg.image_size import Size, size_name
from roadseg.models.backbones import BACKBONES, FAMILIES
from roadseg.models.complexity import PartCount, count_macs, count_parameters, macs_by_part
from roadseg.models.zoo import DECODERS, build_backbone, build_model, check_options, why_unfit

DEFAULT_SIZES: tuple[Size, ...] = ((512, 512), (512, 1024))
DEFAULT_CLASSES = 19


@dataclass(frozen=True)
class ModelCount:
    """A backbone, alone or under a decoder.

    Attributes:
        backbone: its name.
        parameters: numbers that are learned, or None when the decoder does not fit.
        macs: multiply-accumulates for one image of each size; empty when the decoder does not fit.
        licence: of the public weights, or None when there are none.
        weights: where on the model hub they are, or None.
        unfit: why the decoder does not fit, or None.
    """

    backbone: str
    parameters: int | None
    macs: Mapping[Size, int]
    licence: str | None
    weights: str | None
    unfit: str | None = None


def backbones_in_order(names: Sequence[str] = ()) -> list[str]:
    """The names that are known among these, family by family; all of them by default.

    Raises:
        ModelError: when a name is unknown; the message lists the known ones.
    """
    for name in names:
        check_options(name, "linear_concat", None, None)
    return [name for name in BACKBONES if not names or name in names]


def count_models(
    backbones: Sequence[str], sizes: Sequence[Size], decoder: str | None = None, num_classes: int = DEFAULT_CLASSES
) -> Iterator[ModelCount]:
    """Count one network after the other; each takes a few tenths of a second.

    Args:
        backbones: names.
        sizes: of the images.
        decoder: to count whole segmenters; None for backbones alone.
        num_classes: of the segmenters.

    Raises:
        ModelError: when a name is unknown or `num_classes` out of range.
    """
    for name in backbones:
        public = BACKBONES[name].public
        licence, weights = (public.licence, public.hub_name) if public else (None, None)
        unfit = why_unfit(name, decoder) if decoder else None
        if unfit:
            yield ModelCount(name, None, {}, licence, weights, unfit)
            continue
        network = _on_meta(name, decoder, num_classes)
        macs = {size: count_macs(network, size) for size in sizes}
        yield ModelCount(name, count_parameters(network), macs, licence, weights)


def count_parts(
    backbone: str, sizes: Sequence[Size], decoder: str | None = None, num_classes: int = DEFAULT_CLASSES
) -> dict[Size, list[PartCount]]:
    """The parts of one network for each image size; arguments as for `count_models`.

    Raises:
        ModelError: also when the decoder does not fit.
    """
    network = _on_meta(backbone, decoder, num_classes)
    return {size: macs_by_part(network, size) for size in sizes}


def _on_meta(backbone: str, decoder: str | None, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(backbone, decoder, num_classes) if decoder else build_backbone(backbone)


def models_text(models: Sequence[ModelCount], sizes: Sequence[Size]) -> str:
    """A table for people, families apart, and below it why pairs do not fit."""
    head = [["", "million", *("GMACs at" for _ in sizes), "", ""]]
    head += [["backbone", "parameters", *map(size_name, sizes), "licence", "public weights"]]
    rows = []
    for model in models:
        parameters = "-" if model.parameters is None else f"{model.parameters / 1e6:.2f}"
        macs = (f"{model.macs[size] / 1e9:.2f}" if size in model.macs else "-" for size in sizes)
        rows.append([model.backbone, parameters, *macs, model.licence or "-", model.weights or "none: train it"])
    lines = _aligned([*head, *rows], left=(0, len(sizes) + 2, len(sizes) + 3))
    families = [_family(model.backbone) for model in models]
    for index in range(len(models) - 1, 0, -1):
        if families[index] != families[index - 1]:
            lines.insert(len(head) + index, "")
    return "\n".join([*lines, *_reasons(models)])


def _reasons(models: Sequence[ModelCount]) -> list[str]:
    """Why pairs do not fit; what holds for many is said of the first."""
    unfit: dict[str, list[ModelCount]] = {}
    for model in models:
        if model.unfit:
            unfit.setdefault(model.unfit.replace(f"'{model.backbone}'", "''"), []).append(model)
    lines = []
    for alike in unfit.values():
        others = ", ".join(model.backbone for model in alike[1:])
        lines += ["", *wrap(str(alike[0].unfit), 120), *(wrap(f"the same holds for {others}", 120) if others else [])]
    return lines


def parts_text(parts: Mapping[Size, Sequence[PartCount]]) -> str:
    """A table of one network's parts for people, with their sum."""
    sizes, counts = list(parts), next(iter(parts.values()))
    rows = [["", "", "", *("GMACs at" for _ in sizes)], ["module", "part", "parameters", *map(size_name, sizes)]]
    for index, part in enumerate(counts):
        macs = (f"{parts[size][index].macs / 1e9:.3f}" for size in sizes)
        rows.append([part.module, part.part, f"{part.parameters:,}", *macs])
    total = (f"{sum(part.macs for part in parts[size]) / 1e9:.3f}" for size in sizes)
    rows.append(["total", "", f"{sum(part.parameters for part in counts):,}", *total])
    return "\n".join(_aligned(rows, left=(0, 1)))


def models_json(
    models: Sequence[ModelCount], sizes: Sequence[Size], decoder: str | None = None, num_classes: int | None = None
) -> str:
    """What `models_text` shows, for programs, in whole numbers."""
    rows = [
        {
            "backbone": model.backbone,
            "parameters": model.parameters,
            "macs": {size_name(size): count for size, count in model.macs.items()},
            "licence": model.licence,
            "weights": model.weights,
            "unfit": model.unfit,
        }
        for model in models
    ]
    return _json({"decoder": decoder, "num_classes": num_classes, "sizes": list(map(size_name, sizes)), "models": rows})


def parts_json(parts: Mapping[Size, Sequence[PartCount]]) -> str:
    """What `parts_text` shows, for programs, in whole numbers."""
    rows = [
        {
            "module": part.module,
            "part": part.part,
            "parameters": part.parameters,
            "macs": {size_name(size): parts[size][index].macs for size in parts},
        }
        for index, part in enumerate(next(iter(parts.values())))
    ]
    return _json({"sizes": list(map(size_name, parts)), "parts": rows})


def support_table() -> str:
    """Which backbone goes with which decoder, as Markdown; a line for neighbours that are alike."""
    decoders = sorted(DECODERS, key=lambda name: (-DECODERS[name].output_stride, name))
    alike: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for name in BACKBONES:
        marks = tuple("no" if why_unfit(name, decoder) else "yes" for decoder in decoders)
        alike.setdefault((_family(name), marks), []).append(f"`{name}`")
    lines = [
        "| backbone | " + " | ".join(f"`{name}`" for name in decoders) + " |",
        "| --- |" + " --- |" * len(decoders),
    ]
    lines += [f"| {', '.join(names)} | {' | '.join(marks)} |" for (_, marks), names in alike.items()]
    return "\n".join(lines)


def _family(backbone: str) -> int:
    return next(index for index, family in enumerate(FAMILIES) if backbone in family)


def _json(document: Any) -> str:
    return json.dumps(document, indent=1)


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

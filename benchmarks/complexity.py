"""Parameters and multiply-accumulates of our networks beside those that the papers print.

    python -m benchmarks.complexity -o benchmarks/results/complexity.json

Nothing is run or timed: networks are counted on the meta device. The scores in the tables are the papers'; this project
has not measured them. Twins: arXiv 2104.13840, whose "FLOPs" are multiply-accumulates. HaloNet: arXiv 2103.12731.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from roadseg.models.complexity import ATTENTION_PRODUCTS, count_parameters, macs_by_part
from roadseg.models.halonet import HALONETS
from roadseg.models.zoo import build_backbone, build_classifier, build_model

CLASSIFIED_SIZE, SEGMENTED_SIZE = (224, 224), (512, 512)
CLASSES = 150
"""Of ADE20K."""

# name: on ImageNet-1k parameters in millions, "FLOPs" in 10**9 and top-1 accuracy; with UperNet on ADE20K parameters,
# "FLOPs", and mIoU at a single scale and at many.
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "twins_svt_small": (24.0, 2.8, 81.7, 54.4, 228, 46.2, 47.1),
    "twins_svt_base": (56.0, 8.3, 83.2, 88.5, 261, 47.4, 48.9),
    "twins_svt_large": (99.2, 14.8, 83.7, 133, 297, 48.8, 50.2),
    "twins_pcpvt_small": (24.1, 3.7, 81.2, 54.6, 234, 46.2, 47.5),
    "twins_pcpvt_base": (43.8, 6.4, 82.7, 74.3, 250, 47.1, 48.4),
    "twins_pcpvt_large": (60.9, 9.5, 83.1, 91.5, 269, 48.6, 49.8),
}


def classifiers() -> list[dict[str, Any]]:
    """Twins with classifiers of 1000 classes."""
    rows = []
    for name, (parameters_m, gmacs, top1, *_) in PUBLISHED.items():
        with torch.device("meta"):
            network = build_classifier(name, 1000)
        parts = macs_by_part(network, CLASSIFIED_SIZE)
        macs = sum(part.macs for part in parts)
        products = sum(part.macs for part in parts if part.part == ATTENTION_PRODUCTS)
        rows.append(
            {
                "backbone": name,
                "parameters": count_parameters(network),
                "published_parameters_m": parameters_m,
                "macs": macs,
                "macs_without_attention_products": macs - products,
                "published_gmacs": gmacs,
                "published_top1": top1,
            }
        )
    return rows


def segmenters() -> list[dict[str, Any]]:
    """Twins under two decoders of this project, and by calculation under MMSegmentation's UperNet."""
    rows = []
    for name, (*_, parameters_m, gmacs, miou, miou_multi_scale) in PUBLISHED.items():
        row: dict[str, Any] = {"backbone": name}
        for decoder in ("upernet", "linear_concat"):
            with torch.device("meta"):
                network = build_model(name, decoder, CLASSES)
            row[f"{decoder}_parameters"] = count_parameters(network)
            row[f"{decoder}_macs"] = sum(part.macs for part in macs_by_part(network, SEGMENTED_SIZE))
        with torch.device("meta"):
            backbone: Any = build_backbone(name, num_classes=1000)
        parts = macs_by_part(backbone, SEGMENTED_SIZE)
        parameters, macs = mmsegmentation_upernet(backbone.out_channels, CLASSES, SEGMENTED_SIZE)
        rows.append(
            {
                **row,
                # The authors' backbones for dense prediction keep their ImageNet classifiers.
                "mmsegmentation_parameters": parameters + count_parameters(backbone),
                "mmsegmentation_macs": macs + sum(part.macs for part in parts),
                "mmsegmentation_decoder_macs": macs,
                "attention_products": sum(part.macs for part in parts if part.part == ATTENTION_PRODUCTS),
                "published_parameters_m": parameters_m,
                "published_gmacs": gmacs,
                "published_miou": miou,
                "published_miou_multi_scale": miou_multi_scale,
            }
        )
    return rows


def mmsegmentation_upernet(channels: Sequence[int], num_classes: int, size: tuple[int, int]) -> tuple[int, int]:
    """Parameters and multiply-accumulates of the UperNet that the Twins authors configured, from its layers' shapes.

    Width 512, pooling to 1, 2, 3 and 6; for training alone, and so without multiply-accumulates, an auxiliary head of
    width 256 on the third feature.

    Args:
        channels: of the four features.
        num_classes: of the logits.
        size: (H, W) of the image.
    """
    width, auxiliary_width = 512, 256
    positions = [size[0] * size[1] // 4 ** (stage + 2) for stage in range(4)]
    # Each layer: channels in and out, side of the kernel, positions; batch norm has two numbers a channel.
    layers = [(channels[3], width, 1, side * side) for side in (1, 2, 3, 6)]
    layers += [(channels[3] + 4 * width, width, 3, positions[3])]
    layers += [(channels[stage], width, 1, positions[stage]) for stage in range(3)]
    layers += [(width, width, 3, positions[stage]) for stage in range(3)]
    layers += [(4 * width, width, 3, positions[0])]
    macs = sum(into * out * side**2 * count for into, out, side, count in layers) + width * num_classes * positions[0]
    layers += [(channels[2], auxiliary_width, 3, 0)]
    parameters = sum(into * out * side**2 + 2 * out for into, out, side, _ in layers)
    return parameters + (width + auxiliary_width + 2) * num_classes, macs


def halonets() -> list[dict[str, Any]]:
    """HaloNets with classifiers of 1000 classes."""
    rows = []
    for name, sizes in HALONETS.items():
        with torch.device("meta"):
            parameters = count_parameters(build_classifier(name, 1000))
        rows.append({"backbone": name, "parameters": parameters, "published_parameters_m": sizes.published_parameters})
    return rows


def count() -> dict[str, Any]:
    """Everything, as it is written to JSON; parameters and multiply-accumulates are whole numbers."""
    packages = ("torch", "timm", "segmentation-models-pytorch")
    return {
        "versions": {package: version(package) for package in packages},
        "classifiers": {"image": CLASSIFIED_SIZE, "num_classes": 1000, "rows": classifiers()},
        "segmenters": {"image": SEGMENTED_SIZE, "num_classes": CLASSES, "rows": segmenters()},
        "halonets": {"num_classes": 1000, "rows": halonets()},
    }


def markdown(document: Mapping[str, Any]) -> dict[str, str]:
    """The tables by name, in millions of parameters and 10**9 multiply-accumulates."""
    return {
        "classifiers": _table(
            "backbone | M parameters | paper | GMACs | without attention products | paper | paper's top-1",
            [
                [
                    f"`{row['backbone']}`",
                    _millions(row["parameters"]),
                    row["published_parameters_m"],
                    _giga(row["macs"]),
                    _giga(row["macs_without_attention_products"]),
                    row["published_gmacs"],
                    row["published_top1"],
                ]
                for row in document["classifiers"]["rows"]
            ],
        ),
        "segmenters": _table(
            "backbone | `linear_concat` | `upernet` | MMSegmentation's | paper | paper's mIoU, single / multi-scale",
            [
                [
                    f"`{row['backbone']}`",
                    *(
                        f"{_millions(row[f'{kind}_parameters'])} M, {_giga(row[f'{kind}_macs'], 1)} G"
                        for kind in ("linear_concat", "upernet", "mmsegmentation")
                    ),
                    f"{row['published_parameters_m']} M, {row['published_gmacs']} G",
                    f"{row['published_miou']} / {row['published_miou_multi_scale']}",
                ]
                for row in document["segmenters"]["rows"]
            ],
        ),
        "halonets": _table(
            "backbone | M parameters | paper",
            [
                [f"`{row['backbone']}`", _millions(row["parameters"]), row["published_parameters_m"]]
                for row in document["halonets"]["rows"]
            ],
        ),
    }


def _table(header: str, rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {header} |", "|" + " --- |" * len(header.split(" | "))]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f}"


def _giga(number: int, digits: int = 2) -> str:
    return f"{number / 1e9:.{digits}f}"


def main() -> None:
    """Count, print the tables, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    document = count()
    print(*markdown(document).values(), sep="\n\n")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

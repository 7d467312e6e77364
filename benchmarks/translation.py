"""What the positional encoding of Twins tells about the border.

    python -m benchmarks.translation -o benchmarks/results/translation.json --figure docs/images/peg_border.png

Global attention alone knows no positions: rolling the image by 32 pixels rolls the features of Twins-PCPVT. PEG, a
depthwise 3x3 convolution, breaks this only by its zero padding. So the same network with a PEG that pads circularly is
the one to compare with: it rolls too, and what differs from it is what the border adds. Random weights, float64.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from roadseg.benching.machine import describe_machine
from roadseg.models.zoo import build_backbone

BACKBONE = "twins_pcpvt_small"
SIDE = 512
STRIDES = (4, 8, 16, 32)
SHIFT = 32


def make(position: str, padding_mode: str) -> nn.Module:
    """The backbone without PEG, or with one that pads with zeros or circularly; the same weights otherwise."""
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONE).double().eval()
    without = build_backbone(BACKBONE, options={"position": position}).double().eval()
    without.load_state_dict({name: t for name, t in backbone.state_dict().items() if name in without.state_dict()})
    for module in without.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.padding_mode = padding_mode
            module._reversed_padding_repeated_twice = [1, 1, 1, 1]  # what the constructor sets for this mode
    return without


def roll_error(backbone: nn.Module, image: Tensor) -> list[float]:
    """Largest difference between features of the rolled image and rolled features, relative, at each stride."""
    errors = []
    rolled = backbone(image.roll((SHIFT, SHIFT), (2, 3)))
    for stride, before, after in zip(STRIDES, backbone(image), rolled, strict=True):
        expected = before.roll((SHIFT // stride, SHIFT // stride), (2, 3))
        errors.append(float((after - expected).abs().max() / expected.abs().max()))
    return errors


def by_distance(zero: Tensor, circular: Tensor) -> list[float]:
    """Mean relative difference of the tokens at each distance from the border, 0 first."""
    difference = ((zero - circular).norm(dim=1) / circular.norm(dim=1))[0]
    side = difference.shape[0]
    index = torch.arange(side)
    from_edge = torch.minimum(index, side - 1 - index)
    distance = torch.minimum(from_edge[:, None], from_edge[None, :])
    return [float(difference[distance == d].mean()) for d in range(side // 2)]


@torch.inference_mode()
def measure() -> dict[str, object]:
    """Errors of rolling, and the differences by distance."""
    torch.manual_seed(1)
    image = torch.randn(1, 3, SIDE, SIDE, dtype=torch.float64)
    networks = {
        "none": make("none", "zeros"),
        "peg, circular": make("peg", "circular"),
        "peg": make("peg", "zeros"),
    }
    features = {name: network(image) for name, network in networks.items()}
    return {
        "backbone": BACKBONE,
        "image": [SIDE, SIDE],
        "largest_relative_error_of_rolling": {name: roll_error(network, image) for name, network in networks.items()},
        "mean_relative_difference_by_distance_in_tokens": {
            f"stride {stride}": [round(value, 6) for value in by_distance(zero, circular)]
            for stride, zero, circular in zip(STRIDES, features["peg"], features["peg, circular"], strict=True)
        },
    }


def draw(result: dict[str, object], path: Path) -> None:
    """Draw the differences against the distance in pixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    curves = result["mean_relative_difference_by_distance_in_tokens"]
    assert isinstance(curves, dict)
    for stride, (label, values) in zip(STRIDES, curves.items(), strict=True):
        axes.plot([(d + 0.5) * stride for d in range(len(values))], values, marker=".", label=label)
    axes.set(
        xlabel="distance from the image's border (px)",
        ylabel="relative difference of the features",
        title="What PEG's zero padding adds: Twins-PCPVT-S, 512x512, random weights",
        yscale="log",
    )
    axes.legend()
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, write JSON and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    args = parser.parse_args()
    result = measure()
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({"machine": describe_machine(), **result}, indent=1) + "\n")
    if args.figure:
        draw(result, args.figure)


if __name__ == "__main__":
    main()

"""A model file of random weights, to measure a network that nobody has trained."""

import colorsys
from pathlib import Path

import torch
from torch import nn

from roadseg.inference.package import Architecture, ModelHeader, write_model_file
from roadseg.models.segmenter import IMAGENET_MEAN, IMAGENET_STD
from roadseg.models.zoo import build_model
from roadseg.taxonomy import RoadClass, Taxonomy


def write_random_model(path: Path, backbone: str, decoder: str, num_classes: int, seed: int = 0) -> str:
    """Write a model file of random weights; its masks vary, since its last layer is drawn wide.

    Args:
        path: ends in `.safetensors`.
        backbone: name in the zoo.
        decoder: name in the zoo.
        num_classes: 1 to 255.
        seed: of the weights.

    Returns:
        The file's digest.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(backbone, decoder, num_classes).eval()
        last = [m for m in network.decoder.modules() if isinstance(m, nn.Conv2d) and m.out_channels == num_classes]
        # As it is initialised a network says one class everywhere, and any two engines would agree on that.
        nn.init.normal_(last[-1].weight, std=2.0)
    header = ModelHeader(
        Architecture(backbone, decoder, num_classes),
        _numbered(num_classes),
        IMAGENET_MEAN,
        IMAGENET_STD,
        provenance={"weights": f"random, seed {seed}"},
    )
    return write_model_file(path, header, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def _numbered(count: int) -> Taxonomy:
    """Classes that mean nothing, in as many colours."""
    hues = [colorsys.hsv_to_rgb(i / count, 1 - 0.5 * (i % 2), 1) for i in range(count)]
    colours = [(round(255 * red), round(255 * green), i) for i, (red, green, _) in enumerate(hues)]
    return Taxonomy("random", 1, tuple(RoadClass(f"class_{i}", colour) for i, colour in enumerate(colours)))

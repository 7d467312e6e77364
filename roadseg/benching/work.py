"""What a network has to compute, and on what it is tried."""

import cv2
import numpy as np
import numpy.typing as npt

from roadseg.data.synthetic import render_scene
from roadseg.image_size import Size
from roadseg.inference.engines import Output
from roadseg.inference.package import ModelHeader
from roadseg.inference.scale import working_size

WANTED: tuple[Output, ...] = ("mask",)
"""Of the outputs of an engine, what is measured."""

_LARGEST_SCENE = (4096, 8192)


def network_cost(header: ModelHeader, size: Size) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a model file's network for an image of (H, W) px, without running it.

    The multiply-accumulates are those at the model's inference scale, attention's products among them; see
    `roadseg.models.complexity`. Needs torch.
    """
    import torch

    from roadseg.models.complexity import count_macs, count_parameters
    from roadseg.models.zoo import build_model

    architecture = header.architecture
    with torch.device("meta"):
        network = build_model(
            architecture.backbone,
            architecture.decoder,
            architecture.num_classes,
            backbone_options=architecture.backbone_options,
            **architecture.options,
        )
    return count_parameters(network), count_macs(network, working_size(size, header.short_side_px))


def scenes(size: Size, batch: int) -> npt.NDArray[np.uint8]:
    """Procedural road scenes (batch, H, W, 3) RGB, each another one; the same at each call."""
    height, width = size
    drawn = min(height, _LARGEST_SCENE[0]), min(width, _LARGEST_SCENE[1])
    pictures = [render_scene(seed, drawn).image for seed in range(batch)]
    if drawn != size:
        pictures = [np.asarray(cv2.resize(picture, (width, height))) for picture in pictures]
    return np.stack(pictures)

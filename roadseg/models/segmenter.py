"""The network: normalisation, backbone, decoder, and logits at the size of the image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of ImageNet's RGB values in 0..255."""

SIZE_MULTIPLE = 32
"""Backbones halve the image five times; sides are padded up to a multiple of this and the logits cropped back."""


class Segmenter(nn.Module):
    """A backbone under a decoder; takes any image size.

    Args:
        backbone: see `roadseg.models.backbones`.
        decoder: features to logits (B, C, H / 4, W / 4).
        num_classes: C.
        mean: of the RGB values, in 0..255.
        std: of the RGB values, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        decoder: nn.Module,
        num_classes: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.num_classes = num_classes
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Segment images.

        Args:
            image: (B, 3, H, W) RGB in 0..255, float or uint8, any H and W from 1.

        Returns:
            Logits (B, num_classes, H, W).
        """
        height, width = image.shape[-2:]
        normalised = (image.to(self.mean.dtype) - self.mean) / self.std
        logits = self.decoder(self.backbone(_pad(normalised)))
        logits = F.interpolate(logits, scale_factor=4.0, mode="bilinear")
        return logits[..., :height, :width]


def _pad(image: Tensor) -> Tensor:
    """Repeat the last row and column until both sides are multiples of `SIZE_MULTIPLE`."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE), mode="replicate")

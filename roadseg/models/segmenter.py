"""The networks: normalisation, a backbone, and a head; they take RGB values in 0..255."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.models.padding import SIZE_MULTIPLE, crop_image, pad_image

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of ImageNet's RGB values in 0..255."""


class Network(nn.Module):
    """A backbone behind the normalisation that it was trained with.

    Args:
        backbone: see `roadseg.models.backbones`.
        num_classes: C.
        mean: of the RGB values, in 0..255.
        std: of the RGB values, in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def normalise(self, image: Tensor) -> Tensor:
        """Normalised images from (B, 3, H, W) RGB in 0..255, float or uint8."""
        return (image.to(self.mean.dtype) - self.mean) / self.std


class Segmenter(Network):
    """A backbone under a decoder; takes any image size.

    Args:
        backbone: see `roadseg.models.backbones`.
        decoder: features to logits (B, C, H / s, W / s), where s is its `stride`.
        num_classes: C.
        mean: of the RGB values, in 0..255.
        std: of the RGB values, in 0..255.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decoder: nn.Module,
        num_classes: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self.decoder = decoder
        self.logits_scale = float(cast(int, decoder.stride))

    def forward(self, image: Tensor) -> Tensor:
        """Segment images.

        Args:
            image: (B, 3, H, W) RGB in 0..255, float or uint8, any H and W from 1.

        Returns:
            Logits (B, num_classes, H, W).
        """
        return self.decode(self.features(image), (image.shape[-2], image.shape[-1]))

    def features(self, image: Tensor) -> list[Tensor]:
        """The backbone's features of images (B, 3, H, W), padded at the right and bottom to whole patches."""
        # With whole patches at every stride, the features of all scales cover exactly the same part of the image.
        return self.backbone(pad_image(self.normalise(image), SIZE_MULTIPLE))

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits (B, num_classes, H, W) from the `features` of images of a size (H, W)."""
        logits = F.interpolate(self.decoder(features), scale_factor=self.logits_scale, mode="bilinear")
        return crop_image(logits, *size)


class Classifier(Network):
    """A backbone with its classifier, as it is pretrained; takes any image size."""

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (B, num_classes) of images (B, 3, H, W) RGB in 0..255, float or uint8."""
        return cast(Any, self.backbone).classify(self.normalise(image))

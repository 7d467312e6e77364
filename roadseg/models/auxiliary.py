"""The auxiliary head: a small head on one of the backbone's features, which helps to train and is then left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.errors import ConfigError
from roadseg.models.padding import crop_image

_DEFAULTS = {"feature": 2, "weight": 0.4, "channels": 64}


class AuxiliaryHead(nn.Module):
    """A fully convolutional head on one feature: 3x3 convolution, batch norm, ReLU, dropout, classifier.

    PSPNet (arXiv 1612.01105, section 3.4) trains with such a head on the next to last stage, its loss weighed with 0.4;
    UPerNet's published recipes do too.

    Args:
        in_channels: of the feature.
        num_classes: classes of the logits.
        feature: which of the four features at strides 4 to 32 it takes.
        channels: of the hidden map.
        dropout: probability that a channel of the hidden map is dropped in training.
    """

    def __init__(
        self, in_channels: int, num_classes: int, feature: int = 2, channels: int = 64, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.feature = feature
        self.project = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits (B, num_classes, H, W).

        Args:
            features: of a padded image, as `Segmenter.features` gives them; a first one of stride 2 is not read.
            size: (H, W) of the image before it was padded.
        """
        features = features[-4:]
        hidden = F.relu(self.norm(self.project(features[self.feature])))
        padded = [4 * side for side in features[0].shape[-2:]]
        logits = F.interpolate(self.head(self.dropout(hidden)), padded, mode="bilinear")
        return crop_image(logits, *size)


def auxiliary_settings(settings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The settings of an auxiliary head, those that are not given at their defaults; None where there is none.

    Args:
        settings: `feature` (0 to 3, by default 2), `weight` of its loss (0.4) and `channels` (64).

    Raises:
        ConfigError: when a setting is unknown or cannot work.
    """
    if settings is None:
        return None
    for name in settings:
        if name not in _DEFAULTS:
            raise ConfigError(f"model.auxiliary has no setting '{name}'; it has {', '.join(_DEFAULTS)}")
    values = {**_DEFAULTS, **settings}
    _check_whole("feature", values["feature"], 0, 3)
    _check_whole("channels", values["channels"], 1, 4096)
    weight = values["weight"]
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 100:
        raise ConfigError(f"model.auxiliary.weight is {weight!r}; use a number above 0, at most 100")
    return values


def build_auxiliary(
    settings: Mapping[str, Any] | None, out_channels: Sequence[int], num_classes: int
) -> AuxiliaryHead | None:
    """The auxiliary head that settings ask for.

    Args:
        settings: from `auxiliary_settings`.
        out_channels: of the backbone's features.
        num_classes: classes of the logits.
    """
    if settings is None:
        return None
    return AuxiliaryHead(out_channels[-4:][settings["feature"]], num_classes, settings["feature"], settings["channels"])


def _check_whole(name: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"model.auxiliary.{name} is {value!r}; use a whole number, {least} to {most}")

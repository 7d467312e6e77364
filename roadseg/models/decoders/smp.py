"""Peer decoders from segmentation-models-pytorch, on this project's backbones.

That library's decoders take six features, at strides 1, 2, 4, 8, 16 and 32; these three read none of the first two.
"""

from collections.abc import Sequence

from segmentation_models_pytorch.base.heads import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from roadseg.errors import ModelError


class SmpDecoder(nn.Module):
    """A decoder and head of segmentation-models-pytorch behind this project's decoder contract.

    Args:
        decoder: the library's decoder.
        channels: what it yields, at stride 4.
        num_classes: classes of the logits.
        pools_globally: whether it normalises a single pooled value a channel, which one image cannot train.
    """

    stride = 4

    def __init__(self, decoder: nn.Module, channels: int, num_classes: int, pools_globally: bool = False) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = SegmentationHead(channels, num_classes, kernel_size=1)
        self.pools_globally = pools_globally
        initialize_decoder(self.decoder)
        initialize_head(self.head)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, num_classes, H / 4, W / 4) from features at strides 4, 8, 16, 32; one of 2 before is not read.

        Raises:
            ModelError: in training with a single image, where the pooled branch has nothing to normalise over.
        """
        if self.training and self.pools_globally and features[0].shape[0] == 1:
            raise ModelError(
                f"{type(self.decoder).__name__} normalises a pooled branch over the batch and cannot train on a batch "
                "of 1; use a batch size of 2 or more"
            )
        unread = features[0].new_empty(0)
        return self.head(self.decoder([unread, unread, *features[-4:]]))


def fpn(in_channels: Sequence[int], num_classes: int, width: int = 256, dropout: float = 0.2) -> SmpDecoder:
    """Panoptic feature pyramid (arXiv 1901.02446) with `width` channels in the pyramid."""
    decoder = FPNDecoder(_six(in_channels), 5, pyramid_channels=width, segmentation_channels=128, dropout=dropout)
    return SmpDecoder(decoder, decoder.out_channels, num_classes)


def upernet(in_channels: Sequence[int], num_classes: int, width: int = 256) -> SmpDecoder:
    """UPerNet (arXiv 1807.10221), in the library's form, which is lighter than MMSegmentation's."""
    return SmpDecoder(UPerNetDecoder(_six(in_channels), 5, decoder_channels=width), width, num_classes, True)


def deeplabv3plus(
    in_channels: Sequence[int],
    num_classes: int,
    width: int = 256,
    dropout: float = 0.5,
    atrous_rates: Sequence[int] = (12, 24, 36),
) -> SmpDecoder:
    """DeepLabV3+ (arXiv 1802.02611) at output stride 16; needs a backbone whose last stage can be dilated.

    Args:
        in_channels: of the features.
        num_classes: of the logits.
        width: channels of the decoder.
        dropout: behind the pyramid.
        atrous_rates: distances in px, at a sixteenth of the image, between the taps of the three dilated convolutions.
            A tap that lies outside the map from everywhere learns nothing: of a training crop of N px, rates of N / 16
            and more do nothing. The library's are the default; the paper has (6, 12, 18) for crops of 513 px.

    Raises:
        ModelError: when there are not three rates of 1 or more.
    """
    rates = tuple(atrous_rates)
    if len(rates) != 3 or not all(isinstance(rate, int) and rate >= 1 for rate in rates):
        raise ModelError(f"atrous_rates is {atrous_rates}; use three whole numbers of 1 or more, such as [6, 12, 18]")
    decoder = DeepLabV3PlusDecoder(
        _six(in_channels),
        5,
        width,
        atrous_rates=rates,
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=dropout,
    )
    return SmpDecoder(decoder, width, num_classes, True)


def _six(in_channels: Sequence[int]) -> list[int]:
    return [3, 0, *in_channels[-4:]]

"""Images on their way to the service, and the raster that their masks belong to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from roadseg.images import (
    DecodedImage,
    Orientation,
    decode_image,
    image_from_array,
    image_from_pil,
    read_bytes,
)
from roadseg.inference.predictor import ImageSource
from roadseg.inference.result import encode_png


@dataclass(frozen=True)
class Upload:
    """An image to send.

    Attributes:
        body: the file as it is, or a PNG of the pixels, which loses nothing.
        image: what the service will make of it, by the same decoder.
        name: for messages.
    """

    body: bytes
    image: DecodedImage
    name: str


def make_upload(image: ImageSource, orientation: Orientation) -> Upload:
    """Read an image, and decode it: what cannot be used is refused here, before it crosses the network.

    Args:
        image: as a predictor takes it.
        orientation: which raster is segmented.

    Raises:
        ImageError: when the image cannot be used.
        DataError: when a path cannot be read.
        ValueError: when the orientation is neither of the two.
    """
    if isinstance(image, bytes):
        return Upload(image, decode_image(image, orientation=orientation), f"an image of {len(image)} bytes")
    if isinstance(image, str | Path):
        data = read_bytes(Path(image))
        return Upload(data, decode_image(data, orientation=orientation, name=str(image)), str(image))
    if isinstance(image, Image.Image):
        return _as_png(image_from_pil(image, orientation=orientation), "the PIL image")
    if isinstance(image, DecodedImage):
        return _as_png(image, "the decoded image")
    return _as_png(image_from_array(image), "the array")


def _as_png(image: DecodedImage, name: str) -> Upload:
    return Upload(encode_png(Image.fromarray(np.ascontiguousarray(image.pixels))), image, name)

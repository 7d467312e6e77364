"""Reading images: the one decoder that training, the predictor and the service share.

One decoder, so that a frame has the same pixels wherever it is read. What is read, how, and what is refused is in
docs/decoding.md. The containers are looked through here, within bounds and without decoding; then Pillow is given the
picture alone, and decodes it. OpenCV's decoders have returned whatever was in memory for truncated files.
"""

from roadseg.images.container import FORMATS, MAX_PIXELS, MAX_SIDE_PX, EncodedImage
from roadseg.images.decoding import (
    DecodedImage,
    Orientation,
    decode_image,
    decode_inspected,
    encoded_image_size,
    image_from_array,
    image_from_pil,
)
from roadseg.images.files import IMAGE_SUFFIXES, find_images, read_bytes, read_image, read_image_size
from roadseg.images.kinds import inspect_image

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MAX_SIDE_PX",
    "DecodedImage",
    "EncodedImage",
    "Orientation",
    "decode_image",
    "decode_inspected",
    "encoded_image_size",
    "find_images",
    "image_from_array",
    "image_from_pil",
    "inspect_image",
    "read_bytes",
    "read_image",
    "read_image_size",
]

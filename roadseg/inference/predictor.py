"""The predictor: an image in, its mask out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.images import DecodedImage, Orientation, decode_image, image_from_array, image_from_pil, read_image
from roadseg.inference.engines import Engine, make_engine
from roadseg.inference.package import ModelHeader, read_model_file
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import Taxonomy

ImageSource = npt.NDArray[np.uint8] | str | Path | bytes | Image.Image | DecodedImage
"""What a predictor takes: an (H, W, 3) uint8 RGB array, a path, encoded bytes, a PIL image, or a decoded image."""


class Predictor:
    """Segments images with one model. It keeps no state between calls: threads may share one.

    Args:
        engine: what runs the network.
        header: what the network is.
        digest: SHA-256 of the model file, in hexadecimal.
    """

    def __init__(self, engine: Engine, header: ModelHeader, digest: str) -> None:
        self.engine = engine
        self.header = header
        self.digest = digest

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the masks."""
        return self.header.taxonomy

    def __call__(
        self, image: ImageSource, *, confidence: bool = False, orientation: Orientation = "displayed"
    ) -> SegmentationResult:
        """Segment one image.

        Args:
            image: see `ImageSource`.
            confidence: whether to give the probability of the chosen class at each pixel.
            orientation: "displayed" applies the EXIF orientation, "stored" keeps the raster as the camera stored it.

        Returns:
            The result, its mask at the image's own size.

        Raises:
            ImageError: when the image cannot be used.
            DataError: when a path cannot be read.
        """
        return self.batch([image], confidence=confidence, orientation=orientation)[0]

    def batch(
        self, images: Sequence[ImageSource], *, confidence: bool = False, orientation: Orientation = "displayed"
    ) -> list[SegmentationResult]:
        """Segment images of mixed sizes; those of one size run together.

        Args:
            images: see `ImageSource`.
            confidence: as in `__call__`.
            orientation: as in `__call__`.

        Returns:
            One result an image, in order.

        Raises:
            ImageError: when an image cannot be used.
            DataError: when a path cannot be read.
        """
        decoded = [_decode(image, orientation) for image in images]
        results: dict[int, SegmentationResult] = {}
        for group in _same_size(decoded):
            masks, confidences = self.engine.run(np.stack([decoded[i].pixels for i in group]), confidence=confidence)
            for row, i in enumerate(group):
                results[i] = SegmentationResult(
                    decoded[i].pixels,
                    masks[row],
                    self.taxonomy,
                    self.digest,
                    None if confidences is None else confidences[row],
                    decoded[i].exif_orientation,
                )
        return [results[i] for i in range(len(decoded))]


def load_predictor(
    model: str | Path, *, engine: str = "auto", precision: str = "auto", device: str = "auto"
) -> Predictor:
    """Load a model file and make it ready to segment.

    Args:
        model: path of a `.safetensors` model file.
        engine: "auto" or "torch".
        precision: "auto" (float32), "f32" or "bf16".
        device: "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        ModelFileError: when the file is missing, damaged or not a model file.
        EngineError: when engine, precision or device is unknown or unavailable.
        MissingExtraError: when the engine's packages are not installed.
    """
    file = read_model_file(model)
    return Predictor(make_engine(file, engine, precision, device), file.header, file.digest)


def _same_size(images: Sequence[DecodedImage]) -> Iterator[list[int]]:
    order = sorted(range(len(images)), key=lambda i: images[i].pixels.shape)
    for _, group in groupby(order, key=lambda i: images[i].pixels.shape):
        yield list(group)


def _decode(image: ImageSource, orientation: Orientation) -> DecodedImage:
    if isinstance(image, DecodedImage):
        return image
    if isinstance(image, str | Path):
        return read_image(image, orientation=orientation)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), orientation=orientation)
    if isinstance(image, Image.Image):
        return image_from_pil(image, orientation=orientation)
    return image_from_array(image)

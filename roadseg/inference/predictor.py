"""The predictor: an image in, its mask out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.ignore_regions import IgnoreRegions
from roadseg.images import DecodedImage, Orientation, decode_image, image_from_array, image_from_pil, read_image
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.engines import Engine, make_engine
from roadseg.inference.licence import tell_licence
from roadseg.inference.package import ModelHeader, read_model_file
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy

ImageSource = npt.NDArray[np.uint8] | str | Path | bytes | Image.Image | DecodedImage
"""What a predictor takes: an (H, W, 3) uint8 RGB array, a path, encoded bytes, a PIL image, or a decoded image."""


class Predictor:
    """Segments images with one model. It keeps no state between calls: threads may share one.

    Args:
        engine: what runs the network.
        header: what the network is.
        digest: SHA-256 of the model file, in hexadecimal.
        ignore_regions: where masks are 255; see `load_predictor`.
    """

    def __init__(
        self, engine: Engine, header: ModelHeader, digest: str, ignore_regions: IgnoreRegions | None = None
    ) -> None:
        self.engine = engine
        self.header = header
        self.digest = digest
        self.ignore_regions = ignore_regions

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the masks."""
        return self.header.taxonomy

    def __call__(
        self,
        image: ImageSource,
        *,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        name: str | None = None,
    ) -> SegmentationResult:
        """Segment one image.

        Args:
            image: see `ImageSource`.
            confidence: whether to give the probability of the chosen class at each pixel.
            orientation: "displayed" applies the EXIF orientation, "stored" keeps the raster as the camera stored it.
            name: of the frame, for the patterns of ignore regions; by default a path's file name without ending, and
                empty for what is no path.

        Returns:
            The result, its mask at the image's own size.

        Raises:
            ImageError: when the image cannot be used.
            DataError: when a path cannot be read.
        """
        names = None if name is None else [name]
        return self.batch([image], confidence=confidence, orientation=orientation, names=names)[0]

    def batch(
        self,
        images: Sequence[ImageSource],
        *,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        names: Sequence[str] | None = None,
    ) -> list[SegmentationResult]:
        """Segment images of mixed sizes; those of one size run together.

        Args:
            images: see `ImageSource`.
            confidence: as in `__call__`.
            orientation: as in `__call__`.
            names: one an image; as in `__call__`.

        Returns:
            One result an image, in order.

        Raises:
            ImageError: when an image cannot be used.
            DataError: when a path cannot be read.
            ValueError: when there are not as many names as images.
        """
        names = [_name(image) for image in images] if names is None else names
        if len(names) != len(images):
            raise ValueError(f"{len(names)} names for {len(images)} images; give one name an image")
        decoded = [_decode(image, orientation) for image in images]
        results: dict[int, SegmentationResult] = {}
        for group in _same_size(decoded):
            masks, confidences = self.engine.run(np.stack([decoded[i].pixels for i in group]), confidence=confidence)
            for row, i in enumerate(group):
                probabilities = None if confidences is None else confidences[row]
                results[i] = self._result(decoded[i], masks[row], probabilities, names[i])
        return [results[i] for i in range(len(decoded))]

    def _result(
        self,
        image: DecodedImage,
        mask: npt.NDArray[np.uint8],
        confidence: npt.NDArray[np.float32] | None,
        name: str,
    ) -> SegmentationResult:
        ignored = None if self.ignore_regions is None else _ignored(self.ignore_regions, image, name)
        if ignored is not None:
            mask = np.where(ignored, np.uint8(IGNORE_INDEX), mask)
            confidence = None if confidence is None else np.where(ignored, np.float32(0), confidence)
        return SegmentationResult(image.pixels, mask, self.taxonomy, self.digest, confidence, image.exif_orientation)


def load_predictor(
    model: str | Path = DEFAULT_MODEL,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    ignore_regions: IgnoreRegions | None = None,
) -> Predictor:
    """Load a model and make it ready to segment; the licence of its weights is logged, once in a process.

    Args:
        model: name of a bundled model, "roadseg-nano" or "deeplabv3plus-mobilenet", or path of a `.safetensors` model
            file. A bundled name means the bundled model, even where a file is called so: that one is "./roadseg-nano".
        engine: "auto" or "torch".
        precision: "auto" (float32), "f32" or "bf16".
        device: "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".
        ignore_regions: parts of the images, as displayed, that masks leave out: 255 there, with a confidence of 0.

    Raises:
        ModelFileError: when the file is missing, damaged or not a model file, or there is no such bundled model.
        EngineError: when engine, precision or device is unknown or unavailable.
        MissingExtraError: when the engine's packages are not installed.
    """
    file = read_model_file(model_path(model))
    ready = make_engine(file, engine, precision, device)
    tell_licence(file)
    return Predictor(ready, file.header, file.digest, ignore_regions)


def _same_size(images: Sequence[DecodedImage]) -> Iterator[list[int]]:
    order = sorted(range(len(images)), key=lambda i: images[i].pixels.shape)
    for _, group in groupby(order, key=lambda i: images[i].pixels.shape):
        yield list(group)


def _ignored(regions: IgnoreRegions, image: DecodedImage, name: str) -> npt.NDArray[np.bool_] | None:
    """Where an image is ignored, on its raster. Regions are given as the image is displayed."""
    height, width = image.pixels.shape[:2]
    tag = image.exif_orientation if image.orientation == "stored" else 1
    covered = regions.covered((width, height) if tag >= 5 else (height, width), name)
    return None if covered is None else _as_stored(covered, tag)


def _as_stored(displayed: npt.NDArray[np.bool_], tag: int) -> npt.NDArray[np.bool_]:
    """Undo what the EXIF orientation `tag` does for display."""
    if tag >= 5:  # 5 to 8 swap the sides: displaying transposes and then mirrors
        undone = {5: displayed, 6: displayed[:, ::-1], 7: displayed[::-1, ::-1], 8: displayed[::-1]}
        return undone[tag].T
    return {1: displayed, 2: displayed[:, ::-1], 3: displayed[::-1, ::-1], 4: displayed[::-1]}[tag]


def _name(image: ImageSource) -> str:
    return Path(image).stem if isinstance(image, str | Path) else ""


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

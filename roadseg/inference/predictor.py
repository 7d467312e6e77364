"""The predictor: an image in, its mask out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.errors import ConfigError, ImageError
from roadseg.ignore_regions import IgnoreRegions
from roadseg.images import DecodedImage, Orientation, decode_image, image_from_array, image_from_pil, read_image
from roadseg.inference.artefact import Artefact, read_model
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.engines import Engine, make_engine
from roadseg.inference.licence import tell_licence
from roadseg.inference.options import InferenceOptions
from roadseg.inference.package import ModelHeader
from roadseg.inference.plan import Plan, plan_image
from roadseg.inference.result import SegmentationResult
from roadseg.inference.running import Segmented, segment_images
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
        options: how images are segmented unless a call says otherwise; None takes the defaults.
        static_size: (H, W) of the only images that the engine takes; None takes all.
        name: of the model, for people; empty where it has none.

    Raises:
        ConfigError: when options are of another type.
        EngineError: when the engine takes one size, and the options ask for others.
    """

    def __init__(
        self,
        engine: Engine,
        header: ModelHeader,
        digest: str,
        ignore_regions: IgnoreRegions | None = None,
        options: InferenceOptions | None = None,
        static_size: tuple[int, int] | None = None,
        name: str = "",
    ) -> None:
        self.engine = engine
        self.header = header
        self.digest = digest
        self.ignore_regions = ignore_regions
        self.options = _checked(options) or InferenceOptions()
        self.static_size = static_size
        self.name = name
        if static_size is not None:
            self.plan(static_size)

    def __repr__(self) -> str:
        """What segments, and with what."""
        engine = self.engine
        return (
            f"<Predictor of model {self.digest[:12]}, {len(self.taxonomy)} classes of {self.taxonomy.name}, in "
            f"{engine.name} {engine.precision} on {engine.device}>"
        )

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of the masks."""
        return self.header.taxonomy

    def plan(self, size: tuple[int, int], *, confidence: bool = False, options: InferenceOptions | None = None) -> Plan:
        """How images of a size are segmented, and why; runs nothing.

        Args:
            size: (H, W) in px.
            confidence: whether the confidence is asked for.
            options: as in `__call__`.

        Raises:
            ConfigError: when options are of another type.
            ImageSizeError: when the engine takes images of one size only, and these are of another.
        """
        options = _checked(options) or self.options
        scored = confidence or options.min_confidence is not None
        return plan_image(
            size,
            self.header.short_side_px,
            len(self.taxonomy),
            options,
            confidence=scored,
            accelerated=self.engine.device != "cpu",
            batches=self.engine.batches,
            static_size=self.static_size,
        )

    def __call__(
        self,
        image: ImageSource,
        *,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        name: str | None = None,
        options: InferenceOptions | None = None,
    ) -> SegmentationResult:
        """Segment one image.

        Args:
            image: see `ImageSource`.
            confidence: whether to give the confidence at each pixel; which one, the options say.
            orientation: "displayed" applies the EXIF orientation, "stored" keeps the raster as the camera stored it.
            name: of the frame, for the patterns of ignore regions; by default a path's file name without ending, and
                empty for what is no path.
            options: for this call, in place of the predictor's own.

        Returns:
            The result, its mask at the image's own size.

        Raises:
            ImageError: when the image cannot be used.
            DataError: when a path cannot be read.
            EngineError: when the engine gives what cannot be, NaN for instance.
            ConfigError: when options are of another type.
        """
        names = None if name is None else [name]
        return self.batch([image], confidence=confidence, orientation=orientation, names=names, options=options)[0]

    def batch(
        self,
        images: Sequence[ImageSource],
        *,
        confidence: bool = False,
        orientation: Orientation = "displayed",
        names: Sequence[str] | None = None,
        options: InferenceOptions | None = None,
    ) -> list[SegmentationResult]:
        """Segment images of mixed sizes; those of one size run together, as many at once as memory is meant for.

        All images and results are in memory; for more than that holds, call it on parts of them.

        Args:
            images: see `ImageSource`.
            confidence: as in `__call__`.
            orientation: as in `__call__`.
            names: one an image; as in `__call__`.
            options: as in `__call__`.

        Returns:
            One result an image, in order.

        Raises:
            ImageError: when an image cannot be used.
            DataError: when a path cannot be read.
            EngineError: as in `__call__`.
            ConfigError: when options are of another type.
            ValueError: when there are not as many names as images.
        """
        names = [_name(image) for image in images] if names is None else names
        if len(names) != len(images):
            raise ValueError(f"{len(names)} names for {len(images)} images; give one name an image")
        options = _checked(options) or self.options
        scored = confidence or options.min_confidence is not None
        decoded = [_decode_one(images, i, orientation) for i in range(len(images))]
        results: dict[int, SegmentationResult] = {}
        for size, group in _same_size(decoded):
            plan = self.plan(size, confidence=confidence, options=options)
            for start in range(0, len(group), plan.together):
                part = group[start : start + plan.together]
                pixels = [decoded[i].pixels for i in part]
                segmented = segment_images(self.engine, pixels, plan, options, self.taxonomy, confidence=scored)
                for i, one in zip(part, segmented, strict=True):
                    result = self._result(decoded[i], one, names[i], options.min_confidence)
                    results[i] = result if confidence else replace(result, confidence=None)
        return [results[i] for i in range(len(decoded))]

    def _result(
        self, image: DecodedImage, segmented: Segmented, name: str, min_confidence: float | None
    ) -> SegmentationResult:
        mask, confidence = segmented
        if min_confidence is not None and confidence is not None:
            mask = np.where(confidence < min_confidence, np.uint8(IGNORE_INDEX), mask)
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
    options: InferenceOptions | None = None,
    streams: int = 1,
) -> Predictor:
    """Load a model and make it ready to segment; the licence of its weights is logged, once in a process.

    Args:
        model: name of a bundled model, "roadseg-nano" or "deeplabv3plus-mobilenet", or path of a `.safetensors` model
            file, or the folder of an exported model (`roadseg export`). A bundled name means the bundled model, even
            where a file is called so: that one is "./roadseg-nano".
        engine: "auto" (an exported model runs in its own), "torch", "torch-compile", "onnx", "openvino" or
            "tensorrt".
        precision: "auto" (an exported model has its own, a model file runs in float32), "f32", "f16", "bf16" or "int8".
        device: "auto" (the first CUDA device, else the CPU), "cpu", "cuda" or "cuda:N".
        ignore_regions: parts of the images, as displayed, that masks leave out: 255 there, with a confidence of 0.
        options: how images are segmented, and what is left undecided; see `InferenceOptions` for the defaults.
        streams: how many calls from different threads run side by side, each on its part of a CPU's cores, at most one
            a core: more images a second, each of which takes longer. OpenVINO does that; other engines have one stream.

    Raises:
        ConfigError: when options are of another type.
        ModelFileError: when the file is missing, damaged or not a model file, or there is no such bundled model.
        ArtefactError: when the folder of an exported model is incomplete, damaged or was changed.
        EngineError: when engine, precision or device is unknown or unavailable, or `streams` is no number from 1.
        MissingExtraError: when the engine's packages are not installed.
    """
    loaded = read_model(model_path(model))
    ready = make_engine(loaded, engine, precision, device, streams=streams)
    tell_licence(loaded)
    static_size = loaded.facts.static_size if isinstance(loaded, Artefact) else None
    return Predictor(ready, loaded.header, loaded.digest, ignore_regions, options, static_size, loaded.name)


def _checked(options: InferenceOptions | None) -> InferenceOptions | None:
    if options is None or isinstance(options, InferenceOptions):
        return options
    raise ConfigError(f"options is {options!r}; give roadseg.inference.options.InferenceOptions(...)")


def _same_size(images: Sequence[DecodedImage]) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Sizes (H, W), and which images have them."""
    order = sorted(range(len(images)), key=lambda i: images[i].pixels.shape)
    for shape, group in groupby(order, key=lambda i: images[i].pixels.shape):
        yield (shape[0], shape[1]), list(group)


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


def _decode_one(images: Sequence[ImageSource], index: int, orientation: Orientation) -> DecodedImage:
    try:
        return _decode(images[index], orientation)
    except ImageError as error:
        if len(images) == 1 or isinstance(images[index], str | Path):  # which has a name that the error tells
            raise
        raise type(error)(f"image {index} of {len(images)}: {error}") from error


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

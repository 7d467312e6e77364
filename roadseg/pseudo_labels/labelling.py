"""Labelling images with a model: thresholds from a sample of them, then one pass that writes."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from roadseg.errors import ConfigError, DataError, ImageError, RoadsegError
from roadseg.images import DecodedImage, read_image
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult, write_whole
from roadseg.pseudo_labels.folder import PseudoLabelFolder, Tally
from roadseg.pseudo_labels.images import UnlabelledImage, UnlabelledImages, draw_sample
from roadseg.pseudo_labels.thresholds import ConfidenceHistogram, keep_sure

_LISTED_FAILURES = 1000
"""Images that a report names; the rest are counted."""


@dataclass(frozen=True)
class PseudoLabelOptions:
    """What is kept of a model's masks.

    Attributes:
        keep_share: of each class, the part of its pixels that is kept, the most confident ones; above 0, at most 1.
        max_threshold: pixels of this confidence and above are kept in any case, 0 to 1; 1 leaves it to `keep_share`.
        min_confidence: pixels below it are not kept in any case, 0 to `max_threshold`; equal to it there is one
            threshold for all classes.
        sample_frames: images on which the thresholds are measured, drawn at random.
        seed: of the draw.

    Raises:
        ConfigError: when a value cannot work.
    """

    keep_share: float = 0.5
    max_threshold: float = 0.9
    min_confidence: float = 0.0
    sample_frames: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check each value."""
        if not 0 <= self.max_threshold <= 1:
            raise ConfigError(f"max_threshold is {self.max_threshold}; use 0 to 1")
        if not 0 <= self.min_confidence <= self.max_threshold:
            raise ConfigError(
                f"min_confidence is {self.min_confidence}; use 0 to max_threshold, which is {self.max_threshold}"
            )
        if not 0 < self.keep_share <= 1:
            raise ConfigError(f"keep_share is {self.keep_share}; use a value above 0, at most 1")
        if self.sample_frames < 1:
            raise ConfigError(f"sample_frames is {self.sample_frames}; use at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; use 0 or more")


@dataclass
class PseudoLabelReport:
    """What became of the images.

    Attributes:
        labelled: images with a mask, those of earlier runs among them.
        resumed: of these, those of earlier runs.
        empty: of these, those in which nothing was kept.
        failed: images that could not be used.
        failures: path and reason of the first of them.
        tally: of all masks.
    """

    tally: Tally
    labelled: int = 0
    resumed: int = 0
    empty: int = 0
    failed: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def count(self, tally: Tally) -> None:
        """Count an image that has a mask."""
        self.labelled += 1
        self.empty += not tally.kept.any()
        self.tally.add(tally)

    def fail(self, image: UnlabelledImage, error: RoadsegError) -> None:
        """Count an image that could not be used."""
        self.failed += 1
        if len(self.failures) < _LISTED_FAILURES:
            self.failures.append({"image": str(image.path), "error": str(error)})

    def by_class(self, names: list[str], thresholds: npt.NDArray[np.float32]) -> dict[str, dict[str, Any]]:
        """Class name -> threshold, pixels predicted and kept, and the mean confidence of those kept (None: none)."""
        predicted, kept = self.tally.predicted.tolist(), self.tally.kept.tolist()
        return {
            name: {
                "threshold": float(thresholds[i]),
                "predicted_pixels": predicted[i],
                "kept_pixels": kept[i],
                "kept_share": kept[i] / predicted[i] if predicted[i] else None,
                "mean_confidence": float(self.tally.confidence[i]) / kept[i] if kept[i] else None,
            }
            for i, name in enumerate(names)
        }


def pseudo_label(
    predictor: Predictor,
    images: UnlabelledImages,
    folder: str | Path,
    options: PseudoLabelOptions,
    *,
    resume: bool = False,
    batch_size: int = 1,
    more_settings: dict[str, Any] | None = None,
) -> PseudoLabelReport:
    """Write masks of what a model is sure of, for the dataset `folder`; see `roadseg.pseudo_labels.folder`.

    Args:
        predictor: what segments.
        images: of which.
        folder: to write; must be empty, or begun with the same model and settings.
        options: what is kept.
        resume: whether to go on with a folder that was begun: images that are done are passed over, and the thresholds
            stay as they were measured.
        batch_size: images that run together, if they are of one size.
        more_settings: of the predictor, plain values; a folder that was begun with others is not gone on with.

    Returns:
        What became of the images; also written to `report.json`.

    Raises:
        ConfigError: when the folder is in use, or a value cannot work.
        DataError: when there is no image, or none of the sample can be used.
        OutputError: when the folder cannot be written.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; use at least 1")
    settings = {"model_digest": predictor.digest, "precision": predictor.engine.precision, **asdict(options)}
    settings |= more_settings or {}
    images.refuse_inside(Path(folder))
    output = PseudoLabelFolder(folder, predictor.taxonomy, settings, resume)
    sample, total = draw_sample(images, options.sample_frames, options.seed)
    output.probe()  # segmenting the sample may take an hour
    if output.thresholds is None:
        output.begin(*_measure(predictor, sample, options))
    output.write_class_table(predictor.header.weights_licence)
    report = PseudoLabelReport(Tally.zero(len(predictor.taxonomy)))
    with tqdm(images, total=total, unit="image", desc="labelling", disable=None) as shown:
        for batch in _batches(shown, batch_size):
            _label(predictor, batch, output, report)
    write_whole(output.folder / "report.json", _report_json(report, output).encode())
    return report


def _measure(
    predictor: Predictor, sample: list[UnlabelledImage], options: PseudoLabelOptions
) -> tuple[npt.NDArray[np.float32], int]:
    """The thresholds of the classes, from the images of the sample that can be used, and the number of these."""
    histogram = ConfidenceHistogram(len(predictor.taxonomy))
    errors: list[RoadsegError] = []
    for image in tqdm(sample, unit="image", desc="thresholds", disable=None):
        try:
            decoded = _read(image)
        except (DataError, ImageError) as error:  # labelling meets it again, and reports it
            errors.append(error)
            continue
        result = predictor(decoded, confidence=True, name=image.name)
        histogram.add(result.mask, _confidence(result))
    if len(errors) == len(sample):
        raise DataError(f"none of the {len(sample)} images of the sample can be used; the first: {errors[0]}")
    thresholds = histogram.thresholds(options.keep_share, options.max_threshold, options.min_confidence)
    return thresholds, len(sample) - len(errors)


def _label(
    predictor: Predictor, batch: list[UnlabelledImage], output: PseudoLabelFolder, report: PseudoLabelReport
) -> None:
    """Label those images of a batch that are not done; one that cannot be used does not stop the rest."""
    assert output.thresholds is not None
    waiting: list[tuple[UnlabelledImage, DecodedImage]] = []
    for image in batch:
        try:
            done = output.tally_of(image)
            if done is None:
                waiting.append((image, _read(image)))
                continue
        except (DataError, ImageError) as error:
            report.fail(image, error)
            continue
        report.resumed += 1
        report.count(done)
    names, decoded = [image.name for image, _ in waiting], [pixels for _, pixels in waiting]
    for (image, _), result in zip(waiting, predictor.batch(decoded, confidence=True, names=names), strict=True):
        confidence = _confidence(result)
        mask = keep_sure(result.mask, confidence, output.thresholds)
        tally = Tally.of(result.mask, mask, confidence, len(predictor.taxonomy))
        output.write(image, mask, tally)
        report.count(tally)


def _read(image: UnlabelledImage) -> DecodedImage:
    """An image, as training reads it."""
    decoded = read_image(image.path, orientation="stored")
    if decoded.exif_orientation != 1:
        raise DataError(
            f"{image.path} carries the EXIF orientation {decoded.exif_orientation}, which training refuses; turn its "
            "pixels, or remove the tag"
        )
    return decoded


def _confidence(result: SegmentationResult) -> npt.NDArray[np.float32]:
    assert result.confidence is not None  # it was asked for
    return result.confidence


def _batches(images: Iterable[UnlabelledImage], size: int) -> Iterator[list[UnlabelledImage]]:
    iterator = iter(images)
    while batch := list(islice(iterator, size)):
        yield batch


def _report_json(report: PseudoLabelReport, output: PseudoLabelFolder) -> str:
    assert output.thresholds is not None
    document = {
        "settings": output.settings,
        "taxonomy": output.taxonomy.name,
        "images": {
            "labelled": report.labelled,
            "of_earlier_runs": report.resumed,
            "empty": report.empty,
            "failed": report.failed,
            "sampled_for_thresholds": output.sampled,
        },
        "classes": report.by_class(output.taxonomy.names, output.thresholds),
        "failures": report.failures,
    }
    return json.dumps(document, indent=2)

"""The frames that an exported model is made with, and the others that it is judged on."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from roadseg.errors import plural
from roadseg.taxonomy import Taxonomy

if TYPE_CHECKING:
    from roadseg.inference.export.calibration import Calibration
    from roadseg.inference.export.verify import VerificationFrames

_log = logging.getLogger(__name__)

Int8Frames = tuple["Calibration", "VerificationFrames"]
"""What an int8 model is made with, and what it is judged on."""


def frames_from_folder(folder: str | Path, taxonomy: Taxonomy, count: int, scored: int, scenes: int) -> Int8Frames:
    """Images of a folder to measure on; half of the frames at hand to choose layers by, the others to judge on.

    Args:
        folder: of images of any size.
        taxonomy: of the model.
        count: images to measure on, at most, spread evenly.
        scored: frames to score on, at most; see `frames_at_hand`.
        scenes: as of `frames_at_hand`.

    Raises:
        DataError: when there is no image, one cannot be read, or the frames at hand are broken.
    """
    from tqdm import tqdm

    from roadseg.images import find_images, read_image

    paths = find_images([folder])
    picked = [paths[i] for i in _evenly(len(paths), count)]
    images = [read_image(path).pixels for path in tqdm(picked, desc="reading", unit="image", disable=None)]
    return _shared_out(images, frames_at_hand(taxonomy, scored, scenes, every_drive=True))


def frames_from_data(config: str | Path, taxonomy: Taxonomy, count: int, scored: int) -> Int8Frames:
    """Training frames of a data configuration to measure on; half of its validation frames to choose by, half to judge.

    Args:
        config: a training configuration, or a file with its data section.
        taxonomy: of the model.
        count: training frames, at most, spread evenly.
        scored: validation frames, at most, spread evenly.

    Raises:
        ConfigError: when the configuration is wrong.
        DataError: when data is missing or cannot be read in the model's classes.
    """
    from roadseg.evaluation.frames import open_scored
    from roadseg.inference.export.verify import VerificationFrames

    train = open_scored(config, "train", taxonomy, count)
    val = open_scored(config, "val", taxonomy, scored)
    read = [val.read(i) for i in range(len(val))]
    frames = VerificationFrames(
        f"val of {Path(config).name}", [one.image for one in read], [one.truth for one in read], val.label_sets
    )
    return _shared_out([train.read(i).image for i in range(len(train))], frames)


def frames_at_hand(taxonomy: Taxonomy, count: int, scenes: int, *, every_drive: bool = False) -> "VerificationFrames":
    """Frames to verify an exported model on, spread evenly over what is at hand.

    Args:
        taxonomy: of the model. Its labels are used where it is one that comes with roadseg, of the family `hdmap`.
        count: frames of real data, at most.
        scenes: synthetic scenes, which are taken where there is no real data.
        every_drive: whether to take the drives, too, that recipes are trained on.

    Raises:
        DataError: when there are real frames, and they are broken.
    """
    from roadseg.data import at_hand
    from roadseg.inference.export.verify import VerificationFrames
    from roadseg.taxonomy import list_taxonomies, load_taxonomy

    name, labelled = taxonomy.name, False
    if name in list_taxonomies():
        own = load_taxonomy(name)
        labelled = own.names == taxonomy.names and own.family == "hdmap"
    frames = at_hand.frames_at_hand(name if labelled else "hdmap", scenes=scenes, every_drive=every_drive)
    picked = _evenly(len(frames), count)
    images = [frames.read_image(i) for i in picked]
    if not labelled:
        return VerificationFrames(frames.source.name, images)
    truths = [frames.read_mask(i, image.shape[:2]) for i, image in zip(picked, images, strict=True)]
    return VerificationFrames(frames.source.name, images, truths, frames.label_sets)


def shared_pictures(images: Sequence[npt.NDArray[np.uint8]], others: Sequence[npt.NDArray[np.uint8]]) -> int:
    """How many of the images, (H, W, 3) uint8 each, are among the others, pixel by pixel."""
    known = {_digest(other) for other in others}
    return sum(_digest(image) in known for image in images)


def _shared_out(images: list[npt.NDArray[np.uint8]], frames: "VerificationFrames") -> Int8Frames:
    """Calibration with every second frame to choose layers by, and the frames that are left to judge on."""
    from roadseg.inference.export.calibration import Calibration

    choosing, judging = _every_second(frames, 1), _every_second(frames, 0)
    if shared := shared_pictures(judging.images, images):
        _log.warning(
            "%s of the %d that the int8 model is judged on are among the calibration images: the figures flatter it; "
            "give others to calibrate with",
            plural(shared, "frame"),
            len(judging.images),
        )
    return Calibration(images, choosing if choosing.images else None), judging


def _every_second(frames: "VerificationFrames", start: int) -> "VerificationFrames":
    truths = None if frames.truths is None else frames.truths[start::2]
    return replace(frames, images=frames.images[start::2], truths=truths)


def _evenly(available: int, count: int) -> list[int]:
    """At most `count` of the numbers below `available`, spread evenly."""
    return [i * available // count for i in range(count)] if count < available else list(range(available))


def _digest(image: npt.NDArray[np.uint8]) -> bytes:
    shape = np.array(image.shape, np.int64).tobytes()
    return hashlib.sha256(shape + np.ascontiguousarray(image).tobytes()).digest()

"""Looking at an image file once: whether it can be read, what kind it is, and what it roughly shows."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.audit.mask_values import Defect
from roadseg.data.labelled import FrameSource
from roadseg.errors import RoadsegError
from roadseg.images import MAX_PIXELS, decode_image

THUMB_SIDE_PX = 16
_DECODED_SIDE_PX = 128  # JPEG files are decoded at the smallest scale that is not below this
_SAMPLED_SIDE_PX = 64
_BLANK_RANGE = 2
_GREY_RANGE = 1


@dataclass
class ImageFacts:
    """What the audit keeps of an image.

    Attributes:
        size: (H, W) as stored; None when not even the header can be read.
        thumb: (256,) uint8, the picture in 16x16 grey levels; None when there is none to compare.
        turned: whether an EXIF orientation turns the image by 90 degrees.
        defects: what is wrong with it.
    """

    size: tuple[int, int] | None = None
    thumb: npt.NDArray[np.uint8] | None = None
    turned: bool = False
    defects: list[Defect] = field(default_factory=list)


def inspect_frame(source: FrameSource, index: int) -> ImageFacts:
    """Look at the image of a frame; never raises for what a file holds.

    Args:
        source: of the frame; of images that are no files of their own, only what the source gives can be looked at.
        index: position of the frame.
    """
    path = source.frames.image_path(index)
    if path.is_file():
        return inspect_image(path)
    facts = ImageFacts()
    try:
        pixels = source.read_image(index)
    except Exception as error:  # see inspect_image
        facts.defects.append(Defect("unreadable-image", str(error)))
        return facts
    facts.size = pixels.shape[:2]
    _look_at(pixels, facts)
    return facts


def inspect_image(path: Path) -> ImageFacts:
    """Look at an image file; never raises for what the file holds."""
    facts = ImageFacts()
    try:
        data = path.read_bytes()
    except OSError as error:
        facts.defects.append(Defect("unreadable-image", error.strerror or str(error)))
        return facts
    pixels: npt.NDArray[np.uint8] | None
    try:
        pixels = _decode(data, facts)
    except Exception:  # a decoder fed with a damaged file may raise anything; the careful way has the words for it
        pixels = _decode_carefully(data, path, facts)
    if pixels is not None:
        _look_at(pixels, facts)
    return facts


def _decode(data: bytes, facts: ImageFacts) -> npt.NDArray[np.uint8]:
    """RGB (H', W', 3), of a JPEG at a part of its size."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
        facts.size = (image.height, image.width)
        if getattr(image, "is_animated", False) or image.width * image.height > MAX_PIXELS:
            raise ValueError("to be refused in words")
        mode, has_alpha = image.mode, image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
        side = min(image.size)
        if side >= 2 * _DECODED_SIDE_PX:
            image.draft(None, (image.width * _DECODED_SIDE_PX // side, image.height * _DECODED_SIDE_PX // side))
        image.load()
        _describe_kind(mode, has_alpha, is_deep=data[:4] == b"\x89PNG" and data[24] == 16, facts=facts)
        _describe_orientation(image, facts)
        if mode.startswith("I;16"):
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return cv2.merge([grey, grey, grey])
        return np.asarray(image.convert("RGB"))


def _decode_carefully(data: bytes, path: Path, facts: ImageFacts) -> npt.NDArray[np.uint8] | None:
    try:
        return decode_image(data, orientation="stored", name=path.name).pixels
    except RoadsegError as error:
        facts.defects.append(Defect("unreadable-image", str(error)))
        return None


def _describe_kind(mode: str, has_alpha: bool, is_deep: bool, facts: ImageFacts) -> None:
    if is_deep:
        facts.defects.append(Defect("image-16bit", f"pixel type {mode}"))
    if has_alpha:
        facts.defects.append(Defect("image-alpha", f"pixel type {mode}"))
    if mode == "CMYK":
        facts.defects.append(Defect("image-cmyk", "pixel type CMYK"))


def _describe_orientation(image: Image.Image, facts: ImageFacts) -> None:
    try:
        tag = image.getexif().get(0x0112, 1)
    except Exception:  # unreadable EXIF turns nothing
        return
    if tag in range(2, 9):
        facts.turned = tag >= 5
        facts.defects.append(Defect("exif-orientation", f"EXIF orientation {tag}"))


def _look_at(pixels: npt.NDArray[np.uint8], facts: ImageFacts) -> None:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    darkest, brightest, _, _ = cv2.minMaxLoc(grey)
    if brightest - darkest <= _BLANK_RANGE:
        facts.defects.append(Defect("image-blank", f"grey levels {darkest:.0f} to {brightest:.0f}"))
        return
    if _is_grey(pixels) and not _has(facts, "image-16bit"):
        facts.defects.append(Defect("image-grey", "red, green and blue are equal everywhere"))
    thumb = cv2.resize(grey, (THUMB_SIDE_PX, THUMB_SIDE_PX), interpolation=cv2.INTER_AREA)
    facts.thumb = thumb.reshape(-1)


def _is_grey(pixels: npt.NDArray[np.uint8]) -> bool:
    step = max(1, min(pixels.shape[:2]) // _SAMPLED_SIDE_PX)
    for some in (pixels[::step, ::step], pixels):  # a few tell nearly always
        red, green, blue = cv2.split(some)
        if max(cv2.absdiff(red, green).max(), cv2.absdiff(green, blue).max()) > _GREY_RANGE:
            return False
    return True


def _has(facts: ImageFacts, check: str) -> bool:
    return any(defect.check == check for defect in facts.defects)

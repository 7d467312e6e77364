"""What the audit looks for: a stable name, how bad it is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Check:
    """One kind of defect.

    Attributes:
        name: stable, for waivers and reports.
        severity: an error makes the audit fail, a warning does not.
        what: what is wrong, in a sentence.
        fix: what to do, in a sentence.
    """

    name: str
    severity: Severity
    what: str
    fix: str


_ALL = (
    Check(
        "unopened",
        "error",
        "the dataset cannot be opened",
        "do what the message says",
    ),
    Check(
        "unpaired",
        "error",
        "an image has no mask, or a mask no image",
        "add the missing files, or remove the lonely ones",
    ),
    Check(
        "unreadable-image",
        "error",
        "the image is empty, truncated, damaged, or no image",
        "copy or export the file again",
    ),
    Check(
        "unreadable-mask",
        "error",
        "the mask is empty, truncated, damaged, or not of the dataset's format",
        "export the mask again, as a PNG",
    ),
    Check(
        "size-mismatch",
        "error",
        "image and mask differ in size",
        "export the mask at the image's size, with nearest-neighbour resizing",
    ),
    Check(
        "exif-orientation",
        "error",
        "the image is to be turned when shown, and nothing tells whether its mask was drawn on the turned image",
        "turn the pixels and remove the EXIF tag, or remove the tag",
    ),
    Check(
        "image-16bit",
        "error",
        "the image has 16 bits a channel, of which training sees the upper 8",
        "convert the image to 8 bits with the contrast that you want",
    ),
    Check(
        "image-alpha",
        "error",
        "the image has an alpha channel, which training drops: hidden colours come to light",
        "flatten the image onto a background and save it as RGB",
    ),
    Check(
        "image-cmyk",
        "warning",
        "the image is CMYK, whose colours depend on a profile",
        "convert the image to RGB",
    ),
    Check(
        "image-grey",
        "warning",
        "the image has no colour",
        "make sure that the network is meant to see grey images, too",
    ),
    Check(
        "image-blank",
        "error",
        "the image shows one colour everywhere",
        "remove the frame, or export its image again",
    ),
    Check(
        "odd-size",
        "warning",
        "the frame has another size than nearly all of its dataset",
        "make sure that the frame belongs here and was not resized by mistake",
    ),
    Check(
        "binary-mask",
        "error",
        "the mask holds 0 and 255 (or 1 bit) instead of label ids",
        "write label ids into the mask: 1 where it says 255 now, if that is the label's id",
    ),
    Check(
        "off-by-one",
        "error",
        "the ids are shifted by one against the label table",
        "subtract or add one, or start the label table where the masks do",
    ),
    Check(
        "palette-colours",
        "error",
        "the palette shows the label table's colours in another order: the indices do not mean what the table says",
        "convert the mask by its colours to label ids, or read it as a colour-coded mask",
    ),
    Check(
        "grey-colours",
        "error",
        "a colour-coded mask was turned to grey: the values are the brightness of the label colours",
        "export the colour-coded mask without converting it to grey",
    ),
    Check(
        "lossy-mask",
        "error",
        "JPEG compression, anti-aliasing or interpolated resizing left values between those of neighbouring labels",
        "export the mask again as a PNG, not anti-aliased, resized with nearest neighbour only",
    ),
    Check(
        "colour-mask",
        "error",
        "the mask holds colours, but label ids are expected",
        "export an index mask, or open the dataset as colour-coded",
    ),
    Check(
        "index-mask",
        "error",
        "the mask holds numbers, but label colours are expected",
        "export a colour-coded mask, or open the dataset as index masks",
    ),
    Check(
        "mask-alpha",
        "error",
        "the mask is partly transparent",
        "export the mask without an alpha channel",
    ),
    Check(
        "unknown-label",
        "error",
        "the mask holds labels that the dataset's table does not have",
        "correct the mask, or add the labels to the table (as ignored ones, if they mean nothing)",
    ),
    Check(
        "mask-all-ignored",
        "error",
        "every pixel of the mask is ignored: the frame teaches nothing",
        "label the frame, or remove it",
    ),
    Check(
        "mask-constant",
        "warning",
        "one label fills the whole mask",
        "make sure that the frame was labelled",
    ),
    Check(
        "leak-frame",
        "error",
        "nearly the same picture lies in another split, too: scores on it are worth nothing",
        "remove the frame from one of the splits, or split by drive",
    ),
    Check(
        "leak-drive",
        "error",
        "frames of one drive lie in training and in evaluation: scores flatter",
        "split by drive (`roadseg data split`), or waive it by name if the published split is wanted",
    ),
    Check(
        "duplicate-frame",
        "warning",
        "the same picture lies in the split more than once",
        "remove the copies",
    ),
    Check(
        "class-missing",
        "error",
        "the class never occurs in the training data",
        "add data that shows it, or choose a taxonomy without it",
    ),
    Check(
        "class-rare",
        "warning",
        "the class holds less than 0.01 % of the labelled training pixels",
        "add data that shows it, crop for rare classes, or choose a taxonomy without it",
    ),
    Check(
        "class-unscored",
        "warning",
        "the class occurs in training but never in this split, which thus cannot score it",
        "choose a split that shows it",
    ),
)

CHECKS: dict[str, Check] = {check.name: check for check in _ALL}
"""Every check, by name."""

RARE_SHARE = 1e-4
"""A class with a smaller part of the labelled pixels is rare."""

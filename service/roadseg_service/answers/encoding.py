"""A segmentation as the bytes of its answer, and the headers that all answers carry."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote

import cv2
import numpy as np

from roadseg.images import DecodedImage
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import IGNORE_INDEX
from roadseg_service.answers.document import encode_json
from roadseg_service.answers.options import JSON, AnswerOptions
from roadseg_service.answers.overlay import encode_overlay
from roadseg_service.text import encodable

_PRINTABLE = " !#$&'()*+,/:;=?@[]"  # what a header may hold beside letters and digits; `%` is left to the quoting


@dataclass(frozen=True)
class Answer:
    """A finished answer.

    Attributes:
        body: the encoded answer.
        headers: of the response, beside its media type.
    """

    body: bytes
    headers: Mapping[str, str]


def encode_answer(image: DecodedImage, result: SegmentationResult, model_name: str, options: AnswerOptions) -> Answer:
    """Encode a segmentation; for a worker thread.

    Args:
        image: what was segmented.
        result: its mask, with confidences if the options want them.
        model_name: of the model.
        options: what the answer is to be.

    Raises:
        ProblemError: invalid-parameter, when the polygons have too many corners.
    """
    taxonomy = result.taxonomy
    headers = {
        "X-Roadseg-Model": quoted(model_name),
        "X-Roadseg-Model-Digest": result.model_digest,
        "X-Roadseg-Taxonomy": f"{quoted(taxonomy.name)}/{taxonomy.version}",
        "X-Roadseg-Exif-Orientation": str(image.exif_orientation),
        "X-Roadseg-Orientation": image.orientation,
    }
    return Answer(_encode(image, _only_wanted(result, options.class_ids), model_name, options), headers)


def quoted(text: str) -> str:
    """Text as a header can hold it, percent-encoded where it must be."""
    return quote(encodable(text), safe=_PRINTABLE)


def _encode(image: DecodedImage, result: SegmentationResult, model_name: str, options: AnswerOptions) -> bytes:
    if options.render == "overlay":
        return encode_overlay(result, options)
    if options.media_type == JSON:
        return encode_json(image, result, model_name, options)
    return result.png()


def _only_wanted(result: SegmentationResult, class_ids: tuple[int, ...] | None) -> SegmentationResult:
    """The segmentation with all other classes become 255."""
    if class_ids is None:
        return result
    kept = np.full(256, IGNORE_INDEX, np.uint8)
    kept[list(class_ids)] = class_ids
    return replace(result, mask=np.asarray(cv2.LUT(result.mask, kept), dtype=np.uint8))

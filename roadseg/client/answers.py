"""From an answer of the service to a result."""

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.client.models import digest_of
from roadseg.client.rle import decode_rle
from roadseg.client.uploads import Upload
from roadseg.client.wire import Reply
from roadseg.errors import ServiceAnswerError
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy


def read_result(reply: Reply, upload: Upload, taxonomy: Taxonomy, *, confidence: bool) -> SegmentationResult:
    """The result in an answer.

    Args:
        reply: the answer, of status 200.
        upload: what was sent.
        taxonomy: of the model that answered.
        confidence: whether it was asked for; then the answer is JSON, else a PNG.

    Raises:
        ServiceAnswerError: when the answer is not of that kind, or not of that image.
    """
    _check_kind(reply, upload)
    size = upload.image.pixels.shape[:2]
    try:
        mask, plane = _from_json(reply.body, size) if confidence else (_grey(reply.body, size), None)
    except (ValueError, KeyError, TypeError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ServiceAnswerError(
            f"the answer about {upload.name} cannot be used: {error}; check that client and service are of one version",
            status=reply.status,
            request_id=reply.headers.get("X-Request-ID"),
        ) from error
    _check_ids(mask, taxonomy, upload)
    return SegmentationResult(
        upload.image.pixels, mask, taxonomy, digest_of(reply), plane, upload.image.exif_orientation
    )


def _check_kind(reply: Reply, upload: Upload) -> None:
    there = reply.headers.get("X-Roadseg-Orientation")
    if upload.image.exif_orientation != 1 and there != upload.image.orientation and upload.image.format != "array":
        raise ServiceAnswerError(
            f"the mask of {upload.name} is of the {there} raster, not of the {upload.image.orientation} one that was "
            "asked for; check that client and service are of one version"
        )


def _from_json(body: bytes, size: tuple[int, ...]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    document: Mapping[str, Any] = json.loads(body)
    mask = np.full(size, IGNORE_INDEX, np.uint8)
    for entry in document["classes"]:
        rle = entry["rle"]
        if tuple(rle["size"]) != tuple(size):
            raise ValueError(f"a mask of {rle['size'][0]} x {rle['size'][1]} px for an image of {size[0]} x {size[1]}")
        if type(entry["id"]) is not int or not 0 <= entry["id"] < IGNORE_INDEX:
            raise ValueError(f"class id {entry['id']!r}")
        mask[decode_rle(rle["counts"], (size[0], size[1]))] = entry["id"]
    confidence = document["confidence"]
    plane = _grey(base64.b64decode(confidence["data"], validate=True), size)
    return mask, plane.astype(np.float32) * np.float32(confidence["scale"])


def _grey(data: bytes, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The pixels of a palette or grey PNG, whose size is looked at before it is decoded."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if (image.height, image.width) != tuple(size):
            raise ValueError(f"{image.height} x {image.width} px for an image of {size[0]} x {size[1]}")
        if image.mode not in ("P", "L"):
            raise ValueError(f"pixels of type {image.mode}, not of one byte each")
        return np.array(image)


def _check_ids(mask: npt.NDArray[np.uint8], taxonomy: Taxonomy, upload: Upload) -> None:
    there = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[:IGNORE_INDEX])
    if len(there) and there[-1] >= len(taxonomy):
        raise ServiceAnswerError(
            f"the mask of {upload.name} has class {there[-1]}, and taxonomy '{taxonomy.name}' ends at "
            f"{len(taxonomy) - 1}; check that client and service are of one version"
        )

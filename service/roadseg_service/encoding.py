"""Answers: a segmentation as a palette PNG or as JSON, and the headers that both carry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from roadseg.images import DecodedImage
from roadseg.inference.result import SegmentationResult
from roadseg_service.schemas import ClassArea, ImageInfo, ModelRef, Rle, SegmentationAnswer, TaxonomyRef
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


Encoder = Callable[[DecodedImage, SegmentationResult, str], bytes]
"""Takes the image, its segmentation and the model's name."""


def encode_png(image: DecodedImage, result: SegmentationResult, model_name: str) -> bytes:
    """The mask as a palette PNG whose pixel values are the class ids."""
    return result.png()


def encode_json(image: DecodedImage, result: SegmentationResult, model_name: str) -> bytes:
    """The classes that occur, with their areas and run-length encodings."""
    height, width = result.mask.shape
    answer = SegmentationAnswer(
        image=ImageInfo(
            width=width,
            height=height,
            format=image.format,
            exif_orientation=image.exif_orientation,
            orientation=image.orientation,
        ),
        model=ModelRef(name=model_name, digest=result.model_digest),
        taxonomy=TaxonomyRef(name=result.taxonomy.name, version=result.taxonomy.version),
        classes=_classes(result),
    )
    return answer.model_dump_json().encode()


ENCODERS: Mapping[str, Encoder] = {"image/png": encode_png, "application/json": encode_json}
"""By media type; the first is the default."""


def encode_answer(image: DecodedImage, result: SegmentationResult, model_name: str, media_type: str) -> Answer:
    """Encode a segmentation; for a worker thread.

    Args:
        image: what was segmented.
        result: its mask.
        model_name: of the model.
        media_type: a key of `ENCODERS`.
    """
    taxonomy = result.taxonomy
    headers = {
        "X-Roadseg-Model": _quoted(model_name),
        "X-Roadseg-Model-Digest": result.model_digest,
        "X-Roadseg-Taxonomy": f"{_quoted(taxonomy.name)}/{taxonomy.version}",
        "X-Roadseg-Exif-Orientation": str(image.exif_orientation),
        "X-Roadseg-Orientation": image.orientation,
        "Vary": "Accept",
    }
    return Answer(ENCODERS[media_type](image, result, model_name), headers)


def encode_rle(binary: npt.NDArray[np.bool_]) -> Rle:
    """A binary mask (H, W) as compressed COCO run-length encoding."""
    encoded = coco_mask.encode(np.asfortranarray(binary, dtype=np.uint8))
    height, width = binary.shape
    return Rle(size=(height, width), counts=encoded["counts"].decode("ascii"))


def _quoted(text: str) -> str:
    return quote(encodable(text), safe=_PRINTABLE)


def _classes(result: SegmentationResult) -> list[ClassArea]:
    areas = np.bincount(result.mask.ravel(), minlength=len(result.taxonomy))
    return [
        ClassArea(
            id=class_id,
            name=road_class.name,
            colour=road_class.colour,
            area_px=int(areas[class_id]),
            share=int(areas[class_id]) / result.mask.size,
            rle=encode_rle(result.mask == class_id),
        )
        for class_id, road_class in enumerate(result.taxonomy.classes)
        if areas[class_id]
    ]

"""The JSON answer."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from roadseg.images import DecodedImage
from roadseg.inference.result import SegmentationResult
from roadseg_service.answers.confidence import confidence_plane, mean_confidences
from roadseg_service.answers.options import AnswerOptions
from roadseg_service.answers.polygons import MAX_EDGE_PX, edge_length_px, polygons_of
from roadseg_service.answers.runs import column_runs, rle_of
from roadseg_service.problems import INVALID_PARAMETER, ProblemError
from roadseg_service.schemas import ClassArea, ImageInfo, ModelRef, Polygon, SegmentationAnswer, TaxonomyRef

MAX_CORNERS = 500_000
"""Of all polygons of an answer: 6 MB of JSON, and 60 MB while it is written. A street at 4K has some ten thousand."""


def encode_json(image: DecodedImage, result: SegmentationResult, model_name: str, options: AnswerOptions) -> bytes:
    """The classes that occur, with their areas and geometry, and confidences if they are wanted.

    Raises:
        ProblemError: invalid-parameter, when the polygons have too many corners.
    """
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
        classes=list(_classes(result, options)),
        confidence=confidence_plane(result.confidence) if result.confidence is not None else None,
    )
    return answer.model_dump_json(exclude_none=True).encode()


def _classes(result: SegmentationResult, options: AnswerOptions) -> Iterator[ClassArea]:
    mask, confidence = result.mask, result.confidence
    means = None if confidence is None else mean_confidences(mask, confidence)
    if options.geometry == "polygons":
        _refuse_too_fine(mask)
    corners = 0
    for region in column_runs(mask):
        road_class = result.taxonomy.classes[region.class_id]
        entry = ClassArea(
            id=region.class_id,
            name=road_class.name,
            colour=road_class.colour,
            area_px=region.area,
            share=region.area / mask.size,
            mean_confidence=None if means is None else float(means[region.class_id]),
        )
        if options.geometry == "rle":
            entry.rle = rle_of(region, (mask.shape[0], mask.shape[1]))
        else:
            entry.polygons = []
            for polygon in polygons_of(mask, region.class_id, options.tolerance_px):
                corners += _corners(polygon)
                if corners > MAX_CORNERS:
                    raise _too_many_corners(options.tolerance_px)
                entry.polygons.append(polygon)
        yield entry


def _corners(polygon: Polygon) -> int:
    return len(polygon.exterior) + sum(len(hole) for hole in polygon.holes)


def _refuse_too_fine(mask: npt.NDArray[np.uint8]) -> None:
    length = edge_length_px(mask)
    if length > MAX_EDGE_PX:
        raise _too_much(f"their edges are {length} pixels long, and at most {MAX_EDGE_PX} are followed; use")


def _too_many_corners(tolerance_px: float) -> ProblemError:
    return _too_much(
        f"at a tolerance_px of {tolerance_px:g} they have more than {MAX_CORNERS} corners, which is the limit; raise "
        "tolerance_px, or use"
    )


def _too_much(what: str) -> ProblemError:
    return ProblemError(INVALID_PARAMETER, f"query parameter geometry is 'polygons': {what} geometry=rle")

"""The query parameters of a segmentation, and what they ask for."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from roadseg.images import Orientation
from roadseg.taxonomy import Taxonomy
from roadseg_service.answers.options import (
    DEFAULT_OPACITY,
    DEFAULT_TOLERANCE_PX,
    JSON,
    PNG,
    WEBP,
    AnswerOptions,
    Geometry,
    Render,
)
from roadseg_service.faults import Fault, refusal
from roadseg_service.text import encodable, shortened

MAX_TOLERANCE_PX = 100


def _true_or_false(value: Any) -> Any:
    """Only the two words: what else could be read as a truth value ("on", "TRUE", "1") is more likely a mistake."""
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise ValueError("use true or false")
    return value == "true"


class SegmentQuery(BaseModel):
    """The query string. Unknown parameters are refused, so that a misspelt one does not go unnoticed."""

    model_config = ConfigDict(extra="forbid")

    orientation: Orientation = Field(
        "displayed",
        description="displayed: the EXIF orientation is applied, as viewers do; stored: the raster as the camera stored"
        " it. The mask has the size of that raster.",
    )
    render: Render = Field(
        "mask",
        description="mask: class ids; overlay: the image under the class colours, as PNG or WebP. Pixels of no class "
        "show the image alone.",
    )
    opacity: float = Field(
        DEFAULT_OPACITY,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Of the colours in an overlay: 0 shows the image alone, 1 the colours alone. With render=overlay.",
    )
    geometry: Geometry = Field(
        "rle", description="Of the JSON answer: run-length encoding, or polygons. When given, the answer is JSON."
    )
    tolerance_px: float = Field(
        DEFAULT_TOLERANCE_PX,
        ge=0,
        le=MAX_TOLERANCE_PX,
        allow_inf_nan=False,
        description="How far, in pixels, a polygon may be from its region's edge; 0 gives it exactly. With "
        "geometry=polygons.",
    )
    classes: str | None = Field(
        None,
        description="Names or ids of classes, separated by commas. Pixels of all others become 255 in masks, and are "
        "left out of JSON and overlays. GET /v1/taxonomy lists them.",
        examples=["0,2"],
    )
    min_confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Pixels with a lower confidence become 255. By default as the server is configured: none do.",
    )
    confidence: Annotated[bool, BeforeValidator(_true_or_false)] = Field(
        False,
        description="true: the JSON answer also holds each class's mean confidence, and the confidence of every pixel "
        "as an 8-bit PNG. When true, the answer is JSON.",
    )

    def offered(self) -> Sequence[str]:
        """The media types that can be answered with, the default first."""
        if self.render == "overlay":
            return PNG, WEBP
        return (JSON,) if self.only_json() else (PNG, JSON)

    def only_json(self) -> list[str]:
        """The given parameters that only JSON can answer to."""
        asked = [("geometry", "geometry" in self.model_fields_set), ("confidence", self.confidence)]
        return [name for name, is_asked in asked if is_asked]


class BatchQuery(SegmentQuery):
    """The query string of a batch; Accept chooses the container there, so that what it contains is a parameter."""

    format: Literal["png", "json", "webp"] | None = Field(
        None,
        description="Of the answer to each file. By default png, or json where another parameter asks for it.",
    )


FORMATS = {"png": PNG, "json": JSON, "webp": WEBP}
"""Media types by the batch's names for them."""


def answer_options(query: SegmentQuery, media_type: str, taxonomy: Taxonomy) -> AnswerOptions:
    """What a query asks for.

    Args:
        query: whose values are in range.
        media_type: one that it offers.
        taxonomy: of the model that answers.

    Raises:
        ProblemError: invalid-parameter, when a class is unknown.
    """
    return AnswerOptions(
        media_type=media_type,
        render=query.render,
        geometry=query.geometry,
        tolerance_px=query.tolerance_px,
        opacity=query.opacity,
        class_ids=None if query.classes is None else _class_ids(query.classes, taxonomy),
        confidence=query.confidence,
    )


def unknown_class(text: str, taxonomy: Taxonomy) -> Fault | None:
    """What is wrong with a list of classes, if anything."""
    ids = _ids_by_word(taxonomy)
    unknown = [word for word in _words(text) if word not in ids]
    if not unknown:
        return None
    known = ", ".join(f"{i} {encodable(name)}" for i, name in enumerate(taxonomy.names))
    what = f"there is no class '{shortened(unknown[0])}'" if unknown[0] else "a class between the commas is missing"
    fix = f"give names or ids, separated by commas, of: {known}"
    return Fault("classes", f"query parameter classes is '{shortened(text)}': {what}; {fix}")


def _class_ids(text: str, taxonomy: Taxonomy) -> tuple[int, ...] | None:
    """Ids of the classes in a list; None when it holds all classes, which is the same as no list."""
    if fault := unknown_class(text, taxonomy):
        raise refusal([fault])
    ids = _ids_by_word(taxonomy)
    found = {ids[word] for word in _words(text)}
    return None if len(found) == len(taxonomy.names) else tuple(sorted(found))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _ids_by_word(taxonomy: Taxonomy) -> dict[str, int]:
    """Class ids by number and by name; of names that look alike the first counts, and a name before a number."""
    names = [encodable(name) for name in taxonomy.names]
    return {str(i): i for i in range(len(names))} | {name: i for i, name in reversed(list(enumerate(names)))}

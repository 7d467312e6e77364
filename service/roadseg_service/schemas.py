"""The JSON answers, as types; OpenAPI describes them from here."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from roadseg.images import Orientation
from roadseg_service.problems import Problem
from roadseg_service.text import encodable

Text = Annotated[str, AfterValidator(encodable)]
"""Text that comes from the model file."""


class ImageInfo(BaseModel):
    """The uploaded image, and which of its rasters the mask belongs to."""

    width: int = Field(description="Of the mask, in pixels.")
    height: int = Field(description="Of the mask, in pixels.")
    format: str = Field(description="JPEG, PNG or WEBP, as its bytes tell.")
    exif_orientation: int = Field(description="The EXIF tag in the file, 1..8; 1 where there is none.", ge=1, le=8)
    orientation: Orientation = Field(description="displayed: the tag was applied; stored: it was not.")


class ModelRef(BaseModel):
    """Which model answered."""

    name: Text
    digest: str = Field(description="SHA-256 of the model file, in hexadecimal.")


class TaxonomyRef(BaseModel):
    """What the class ids mean."""

    name: Text
    version: int


class Rle(BaseModel):
    """A binary mask as compressed COCO run-length encoding; `pycocotools.mask.decode` reads it."""

    size: tuple[int, int] = Field(description="Height and width, in pixels.")
    counts: str


class Polygon(BaseModel):
    """A region of a class, its rings on the edges of pixels: the one in row y, column x covers x..x+1 and y..y+1."""

    exterior: list[tuple[int, int]] = Field(description="Corners (x, y) in pixels; the first is not repeated.")
    holes: list[list[tuple[int, int]]] = Field(description="Rings around what is not of the class, as `exterior`.")


class ClassArea(BaseModel):
    """A class that occurs in the image, and where."""

    id: int = Field(description="The class's pixel value in the PNG answer.")
    name: Text
    colour: tuple[int, int, int] = Field(description="Red, green, blue, 0..255.")
    area_px: int = Field(description="Pixels of the class.")
    share: float = Field(description="Of the image's pixels, 0..1.")
    mean_confidence: float | None = Field(default=None, description="Of its pixels, 0..1; with confidence=true.")
    rle: Rle | None = Field(default=None, description="Unless geometry=polygons.")
    polygons: list[Polygon] | None = Field(
        default=None, description="With geometry=polygons: regions that touch at sides or corners, within tolerance_px."
    )


class ConfidencePlane(BaseModel):
    """The confidence of every pixel, before any class or pixel was left out."""

    media_type: Literal["image/png"] = Field(description="A grey PNG of 8 bits, of the mask's size.")
    scale: float = Field(description="What a pixel value is multiplied by to give the confidence: 1/255.")
    data: str = Field(description="The file, as base64.")


class SegmentationAnswer(BaseModel):
    """The mask of one image, class by class."""

    image: ImageInfo
    model: ModelRef
    taxonomy: TaxonomyRef
    classes: list[ClassArea] = Field(
        description="The classes that occur, by id. Their areas add up to the image, less the pixels that were left "
        "out: ignore regions, and by `classes` or `min_confidence`."
    )
    confidence: ConfidencePlane | None = Field(default=None, description="With confidence=true.")


class BatchItem(BaseModel):
    """What became of one file of a batch: an answer, or a problem."""

    index: int = Field(description="Of the file in the request, from 0.")
    name: Text = Field(description="The file's name, as the request gave it, without folders.")
    file: str | None = Field(default=None, description="Name of the answer in this archive.")
    media_type: str | None = Field(default=None, description="Of the answer.")
    etag: str | None = Field(default=None, description="Of the answer; the same that POST /segment gives.")
    exif_orientation: int | None = Field(default=None, description="The EXIF tag in the file, 1..8.", ge=1, le=8)
    problem: Problem | None = Field(default=None, description="Why there is no answer.")
    retry_after_s: int | None = Field(default=None, description="With some problems: when it is worth another try.")


class BatchManifest(BaseModel):
    """What became of the files of a batch, in the order of the request."""

    model: ModelRef
    taxonomy: TaxonomyRef
    orientation: Orientation = Field(description="Which raster the answers belong to.")
    items: list[BatchItem]


class ClassInfo(BaseModel):
    """One class of a taxonomy."""

    id: int
    name: Text
    colour: tuple[int, int, int] = Field(description="Red, green, blue, 0..255.")
    group: Text = Field(description="Coarse kind of thing, for example surface or furniture.")
    left_right: int | None = Field(description="Id of the class that this one becomes in a mirrored image, or null.")
    refines: Text | None = Field(description="Name of the class of the family that this one is a part of, or null.")


class TaxonomyInfo(TaxonomyRef):
    """What the class ids mean, in full."""

    family: Text | None = Field(description="Taxonomies of one family share the meaning of class names; or null.")
    classes: list[ClassInfo]


class TaxonomyAnswer(TaxonomyInfo):
    """What the values of a mask mean."""

    ignore_index: int = Field(description="The value of pixels of no class: 255.")
    palette: list[tuple[int, int, int]] = Field(
        description="256 colours (red, green, blue), by pixel value, as PNG answers hold them; black for 255.",
        min_length=256,
        max_length=256,
    )


class InputLimits(BaseModel):
    """What an upload may be at most."""

    max_body_bytes: int
    max_pixels: int
    max_side_px: int
    formats: list[str]


class ModelInfo(ModelRef):
    """A model that is loaded."""

    role: Literal["active", "previous"] = Field(description="active: it answers; previous: kept for going back to it.")
    taxonomy: TaxonomyInfo
    weights_licence: Text
    engine: str
    device: str
    precision: str
    limits: InputLimits


class LoadAttempt(BaseModel):
    """An attempt to load or change the model."""

    trigger: Literal["start", "request", "rollback", "reload"] = Field(
        description="start of the service, POST /v1/models, POST /v1/models/rollback, or SIGHUP."
    )
    model: Text = Field(description="As it was asked for.")
    began: datetime
    seconds: float = Field(description="That it took.", ge=0)
    outcome: Literal["succeeded", "unchanged", "failed"] | None = Field(
        description="unchanged: the model that answers has this digest already; null while it runs."
    )
    detail: Text | None = Field(description="Why it failed.")


class ModelList(BaseModel):
    """The models that are loaded: the one that answers comes first."""

    models: list[ModelInfo]
    loading: LoadAttempt | None = Field(description="The attempt that runs now.")
    last_attempt: LoadAttempt | None = Field(description="The attempt that ended last.")


def _digest(value: Any) -> str:
    """A SHA-256 as it is compared; the pattern, which OpenAPI shows, would be refused in its own words."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError("use 64 hexadecimal digits")
    return value.lower()


class ModelChange(BaseModel):
    """Another model that is to answer."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        description="Path below the service's folder of models, or name of a bundled model.",
        min_length=1,
        max_length=1000,
        examples=["roadseg-nano"],
    )
    digest: Annotated[str, BeforeValidator(_digest)] | None = Field(
        None,
        description="SHA-256 that it must have, in hexadecimal: of the file, or an exported model's artefact.json.",
        pattern="^[0-9a-fA-F]{64}$",
    )
    allow_taxonomy_change: bool = Field(False, description="Whether it may have other classes.")


class Health(BaseModel):
    """A passed health check."""

    status: str

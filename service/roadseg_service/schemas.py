"""The JSON answers, as types; OpenAPI describes them from here."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from roadseg.images import Orientation
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


class ClassArea(BaseModel):
    """A class that occurs in the image, and where."""

    id: int = Field(description="The class's pixel value in the PNG answer.")
    name: Text
    colour: tuple[int, int, int] = Field(description="Red, green, blue, 0..255.")
    area_px: int = Field(description="Pixels of the class.")
    share: float = Field(description="Of the image's pixels, 0..1.")
    rle: Rle


class SegmentationAnswer(BaseModel):
    """The mask of one image, class by class."""

    image: ImageInfo
    model: ModelRef
    taxonomy: TaxonomyRef
    classes: list[ClassArea] = Field(description="The classes that occur, by id; their areas add up to the image.")


class ClassInfo(BaseModel):
    """One class of a taxonomy."""

    id: int
    name: Text
    colour: tuple[int, int, int] = Field(description="Red, green, blue, 0..255.")


class TaxonomyInfo(TaxonomyRef):
    """What the class ids mean, in full."""

    classes: list[ClassInfo]


class InputLimits(BaseModel):
    """What an upload may be at most."""

    max_body_bytes: int
    max_pixels: int
    formats: list[str]


class ModelInfo(ModelRef):
    """A model that this service answers with."""

    taxonomy: TaxonomyInfo
    weights_licence: Text
    engine: str
    device: str
    precision: str
    limits: InputLimits


class ModelList(BaseModel):
    """The models of this service: one."""

    models: list[ModelInfo]


class Health(BaseModel):
    """A passed health check."""

    status: str

"""What a format of pre-labels is."""

from dataclasses import dataclass
from typing import IO, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from roadseg.taxonomy import Taxonomy


@dataclass(frozen=True)
class Header:
    """What all images of a file have in common.

    Attributes:
        taxonomy: the classes.
        model: what the user calls the model.
        model_digest: SHA-256 of the model file.
        image_url: what Label Studio finds an image's path behind.
    """

    taxonomy: Taxonomy
    model: str
    model_digest: str
    image_url: str

    @property
    def description(self) -> str:
        """One line about where the labels come from."""
        return f"pre-labels by roadseg, model {self.model}, taxonomy {self.taxonomy.name} {self.taxonomy.version}"


@dataclass(frozen=True)
class LabelledImage:
    """An image and its mask.

    Attributes:
        name: the image's path below the folder that was searched, with forward slashes.
        mask: (H, W) uint8, class ids; 255 where there is none.
        confidence: mean over the mask, if it is known.
    """

    name: str
    mask: npt.NDArray[np.uint8]
    confidence: float | None


class Format(Protocol):
    """Writes a file image by image, so that millions of them do not sit in memory.

    Attributes:
        file_name: what the file is called.
    """

    file_name: ClassVar[str]

    def __init__(self, file: IO[bytes], header: Header) -> None:
        """Begin a file."""
        ...

    def encode(self, labelled: LabelledImage) -> Any:
        """What `add` takes; called by several threads at a time."""
        ...

    def add(self, labelled: LabelledImage, encoded: Any) -> None:
        """Append an image."""
        ...

    def close(self) -> None:
        """End the file; it stays open."""
        ...

"""What one answer is to be."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PNG, JSON, WEBP = "image/png", "application/json", "image/webp"

Render = Literal["mask", "overlay"]
Geometry = Literal["rle", "polygons"]

DEFAULT_OPACITY = 0.5
DEFAULT_TOLERANCE_PX = 1.0


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How a segmentation is answered.

    Attributes:
        media_type: PNG, JSON or WEBP.
        render: the class ids, or the picture under their colours.
        geometry: of the JSON answer.
        tolerance_px: how far a simplified polygon may be from its region's edge.
        opacity: of the colours over the picture, 0..1.
        class_ids: the classes that are wanted, in rising order; None for all.
        confidence: whether the JSON answer holds confidences.
    """

    media_type: str = PNG
    render: Render = "mask"
    geometry: Geometry = "rle"
    tolerance_px: float = DEFAULT_TOLERANCE_PX
    opacity: float = DEFAULT_OPACITY
    class_ids: tuple[int, ...] | None = None
    confidence: bool = False

    def canonical(self) -> Mapping[str, Any]:
        """All of it, defaults included, fit for JSON."""
        return asdict(self)

"""How images are segmented: whole or in windows, with which augmentation, and what is left undecided."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from roadseg.errors import ConfigError

ConfidenceKind = Literal["probability", "margin"]
"""`probability`: of the chosen class; `margin`: that less the probability of the second class. Both in 0..1."""

PATCH_MULTIPLE = 32
"""Windows and the steps between them are whole patches of the networks' coarsest features (stride 32)."""

MIN_WINDOW_PX = 2 * PATCH_MULTIPLE
MAX_OVERLAP = 0.9
MIN_SCALE, MAX_SCALE = 0.1, 4.0


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """What a predictor does with an image; the defaults are what the models' scores are measured with.

    Attributes:
        max_pixels: images of at most so many pixels are seen whole, others in windows; counted as the network sees
            them, which is at the model's inference scale. Images of one size also run together up to this number.
        window: (H, W) of windows in px, multiples of 32. At scales above 1 windows shrink, so that the network sees
            no more than this.
        overlap: share of a window that its neighbour shows too, at least; 0..0.9.
        scales: factors of the working size at which the image is seen; probabilities are averaged over them.
        flip: whether each scale is also seen mirrored, its left and right classes swapped back.
        min_confidence: pixels below it become 255 in the mask and keep their confidence; None leaves none out.
        confidence_kind: what a confidence is, see `ConfidenceKind`.

    Raises:
        ConfigError: when a value cannot work.
    """

    max_pixels: int = 2048 * 1024
    window: tuple[int, int] = (1024, 1024)
    overlap: float = 0.25
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    min_confidence: float | None = None
    confidence_kind: ConfidenceKind = "probability"

    def __post_init__(self) -> None:
        """Check the values; lists, as YAML and JSON have them, become tuples."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise ConfigError(f"max_pixels is {self.max_pixels!r}; use a whole number of pixels, from 1")
        _check_window(self.window)
        _check_share("overlap", self.overlap, MAX_OVERLAP)
        _check_scales(self.scales)
        if type(self.flip) is not bool:
            raise ConfigError(f"flip is {self.flip!r}; use true or false")
        if self.min_confidence is not None:
            _check_share("min_confidence", self.min_confidence, 1)
        if self.confidence_kind not in get_args(ConfidenceKind):
            known = ", ".join(get_args(ConfidenceKind))
            raise ConfigError(f"confidence_kind is {self.confidence_kind!r}; known: {known}")

    @property
    def augmented(self) -> bool:
        """Whether an image is seen otherwise than once as it is."""
        return self.flip or self.scales != (1.0,)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, fit for JSON; `InferenceOptions(**document)` reads them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def _check_window(window: Any) -> None:
    fits = isinstance(window, tuple) and len(window) == 2
    if not fits or any(type(v) is not int or v < MIN_WINDOW_PX or v % PATCH_MULTIPLE for v in window):
        raise ConfigError(
            f"window is {window!r}; use (height, width) in px, multiples of {PATCH_MULTIPLE} from {MIN_WINDOW_PX}"
        )


def _check_share(name: str, value: Any, most: float) -> None:
    if not _is_number(value) or not 0 <= value <= most:
        raise ConfigError(f"{name} is {value!r}; use a share from 0 to {most}")


def _check_scales(scales: Any) -> None:
    usable = isinstance(scales, tuple) and len(scales) > 0
    if not usable or not all(_is_number(v) and MIN_SCALE <= v <= MAX_SCALE for v in scales):
        raise ConfigError(f"scales is {scales!r}; use one factor or more, each from {MIN_SCALE} to {MAX_SCALE}")
    if len(set(scales)) < len(scales):
        raise ConfigError(f"scales is {scales!r}; name each factor once, since all count alike")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

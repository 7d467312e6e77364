"""Which way an image takes through a predictor, and why: decided here alone, from sizes and options."""

from dataclasses import dataclass
from typing import Literal

from roadseg.errors import EngineError, ImageSizeError
from roadseg.inference.options import MIN_WINDOW_PX, PATCH_MULTIPLE, InferenceOptions
from roadseg.inference.scale import working_size

Way = Literal["masks", "logits", "views"]
"""`masks`: the engine resizes the whole image, and gives its mask at the image's size. `logits`: it resizes the image
and gives the logits at the working size, which are finished here. `views`: windows, scales and mirror images are cut
here, too."""

MAX_PLANE_BYTES = 2**29
"""Engines that give masks hold a float32 plane of the image's size for each class, and for confidences two more copies
of them: at most so much in all."""

MAX_IMAGE_BYTES = 2**28
"""Engines that resize images hold them in float32, here at most so much; larger ones are resized here, to whole grey
levels, which changed the class of one pixel in a thousand (frames of CamVid at three sizes)."""

_BYTES_PER_PIXEL = 12
"""Of an image in float32."""


@dataclass(frozen=True)
class Plan:
    """How images of one size are segmented.

    Attributes:
        way: see `Way`.
        working: (h, w) at which the network sees the whole image at scale 1.
        window: (h, w) of its windows, at most `working`; the same if the image is seen whole.
        together: how many images of this size run at once.
        reason: in words.
    """

    way: Way
    working: tuple[int, int]
    window: tuple[int, int]
    together: int
    reason: str

    @property
    def whole(self) -> bool:
        """Whether the network sees the image in one piece."""
        return self.window == self.working


def plan_image(
    size: tuple[int, int],
    short_side_px: int | None,
    num_classes: int,
    options: InferenceOptions,
    *,
    confidence: bool = False,
    accelerated: bool = False,
    batches: bool = True,
    static_size: tuple[int, int] | None = None,
) -> Plan:
    """Decide how images of a size are segmented.

    Args:
        size: (H, W) of the images.
        short_side_px: the model's inference scale; see `roadseg.inference.scale`.
        num_classes: of the model.
        options: what the user wants.
        confidence: whether confidences are needed, given or to abstain by.
        accelerated: whether the engine runs elsewhere than on the CPU, so that fetching logits from it costs time.
        batches: whether the engine runs images of a batch at once; otherwise they are given to it one by one.
        static_size: (H, W) of the only images that the engine takes; None takes all.

    Raises:
        ImageSizeError: when the engine takes one size, and this is another.
        EngineError: when the engine takes one size, and the options ask for others.
    """
    working = working_size(size, short_side_px)
    if static_size is not None:
        _refuse_other_size(size, static_size, working, options)
        window, why = working, f"the network was exported for images of {size[0]}x{size[1]}"
    else:
        window, why = _window(working, options)
    if window != working:
        return Plan("views", working, window, 1, why)
    if options.augmented:
        return Plan("views", working, window, 1, f"test-time augmentation; {why}")
    together = max(1, options.max_pixels // (working[0] * working[1])) if batches else 1
    planes = 4 * num_classes * size[0] * size[1] * (3 if confidence else 1)
    finished_here = _why_finished_here(size, planes, accelerated)
    if confidence and options.confidence_kind == "margin":
        finished_here = "engines give no margin"
    if not finished_here:
        return Plan("masks", working, window, max(1, min(together, MAX_PLANE_BYTES // planes)), why)
    image = _BYTES_PER_PIXEL * size[0] * size[1]
    if image > MAX_IMAGE_BYTES and working != size and static_size is None:
        much = f"an image of {size[0]}x{size[1]} would take {image >> 20} MiB in float32, over {MAX_IMAGE_BYTES >> 20}"
        return Plan("views", working, window, 1, f"{much}; {why}")
    return Plan("logits", working, window, max(1, min(together, MAX_IMAGE_BYTES // image)), f"{finished_here}; {why}")


def _refuse_other_size(
    size: tuple[int, int], static_size: tuple[int, int], working: tuple[int, int], options: InferenceOptions
) -> None:
    only = f"the model was exported for images of {static_size[0]}x{static_size[1]} px only"
    if size != static_size:
        raise ImageSizeError(f"{only}; this one has {size[0]}x{size[1]} px: export the model without --size")
    # Views are cut at the working size.
    if options.scales != (1.0,) or (options.flip and working != size):
        what = "mirrored" if options.scales == (1.0,) else f"at scales {options.scales}"
        raise EngineError(f"{only} and cannot see them {what}: export the model without --size")


def _why_finished_here(size: tuple[int, int], planes: int, accelerated: bool) -> str:
    """Why an engine's logits are made masks here and not by the engine; empty if the engine does."""
    if planes > MAX_PLANE_BYTES:
        much = f"planes of the classes at {size[0]}x{size[1]} would take {planes >> 20} MiB"
        return f"{much}, over {MAX_PLANE_BYTES >> 20}"
    if not accelerated:
        # Here they are interpolated and decided upon chunk by chunk within a core's cache; runtimes write all planes
        # to memory first, and look for the best class pixel by pixel across them (benchmarks/finishing.py).
        return "on a CPU that is as fast or faster, and takes less memory"
    return ""


def _window(working: tuple[int, int], options: InferenceOptions) -> tuple[tuple[int, int], str]:
    """Size of the windows, at most the image's, and why."""
    largest = max(1.0, *options.scales)
    seen = round(working[0] * working[1] * largest**2)
    if seen <= options.max_pixels:
        return working, f"{seen} pixels are seen whole, at most {options.max_pixels} are"
    height, width = (_shrunk(side, largest) for side in options.window)
    if height >= working[0] and width >= working[1]:
        return working, f"one window of {height}x{width} covers {working[0]}x{working[1]}"
    window = min(height, working[0]), min(width, working[1])
    return window, f"{seen} pixels are more than {options.max_pixels}: windows of {window[0]}x{window[1]}"


def _shrunk(side: int, scale: float) -> int:
    """Side of a window that is no larger than asked for when it is seen at a scale; whole patches."""
    return max(MIN_WINDOW_PX, int(side / scale) // PATCH_MULTIPLE * PATCH_MULTIPLE)

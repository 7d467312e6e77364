"""An engine's answers for images, checked; whole images, and images that are put together from views."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from roadseg.errors import EngineError
from roadseg.inference.augmentation import average_views
from roadseg.inference.engines import Engine, Output
from roadseg.inference.finishing import FloatArray, finish
from roadseg.inference.options import ConfidenceKind, InferenceOptions
from roadseg.inference.plan import Plan
from roadseg.inference.views import cut_view
from roadseg.inference.windows import Region, blend_windows
from roadseg.label_sets import left_right_partners
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy

Segmented = tuple[npt.NDArray[np.uint8], FloatArray | None]
"""The mask (H, W) uint8 of an image, and its confidence (H, W) float32 if it was wanted."""


def segment_images(
    engine: Engine,
    images: Sequence[npt.NDArray[np.uint8]],
    plan: Plan,
    options: InferenceOptions,
    taxonomy: Taxonomy,
    *,
    confidence: bool,
) -> list[Segmented]:
    """Segment images of one size as it was planned.

    Args:
        engine: what runs the network.
        images: (H, W, 3) uint8 RGB each, at most `plan.together`.
        plan: for this size.
        options: that it was made for.
        taxonomy: the network's classes.
        confidence: whether confidences are wanted, of the kind that the options name.

    Raises:
        EngineError: when the engine gives what cannot be.
    """
    kind = options.confidence_kind if confidence else None
    if plan.way == "views":
        return [_from_views(engine, pixels, plan, options, taxonomy, kind) for pixels in images]
    batch = np.stack(images)
    if plan.way == "masks":
        return _masks(engine, batch, len(taxonomy), confidence)
    logits = _logits(engine, batch, plan.working, len(taxonomy), rescale=True)
    return [finish([one], plan.working, (batch.shape[1], batch.shape[2]), kind) for one in logits]


def _masks(engine: Engine, images: npt.NDArray[np.uint8], num_classes: int, confidence: bool) -> list[Segmented]:
    outputs: tuple[Output, ...] = ("mask", "confidence") if confidence else ("mask",)
    computed = engine.run(images, outputs)
    mask = computed["mask"]
    _check_shape(engine, "a mask", mask, images.shape[:3])
    if mask.max() == IGNORE_INDEX:
        raise _not_finite(engine, "logits")
    if mask.max() >= num_classes:
        raise EngineError(
            f"engine {engine.name} ({engine.precision}) gave class id {mask.max()} where there are {num_classes} "
            "classes; use precision f32, or export the model again"
        )
    if not confidence:
        return [(one, None) for one in mask]
    scores = computed["confidence"]
    _check_shape(engine, "a confidence", scores, images.shape[:3])
    _refuse_not_finite(engine, "confidences", scores)
    return list(zip(mask, scores, strict=True))


def _from_views(
    engine: Engine,
    pixels: npt.NDArray[np.uint8],
    plan: Plan,
    options: InferenceOptions,
    taxonomy: Taxonomy,
    kind: ConfidenceKind | None,
) -> Segmented:
    partners = left_right_partners(taxonomy)

    def run(region: Region) -> FloatArray:
        def see(size: tuple[int, int], mirrored: bool) -> FloatArray:
            view = cut_view(pixels, plan.working, region, size)
            view = np.ascontiguousarray(view[:, ::-1]) if mirrored else view
            return _logits(engine, view[None], size, len(taxonomy), rescale=False)[0]

        size = (region.height, region.width)
        if not options.augmented:
            return see(size, False)
        return average_views(size, options.scales, options.flip, partners, see)

    bands = blend_windows(plan.working, plan.window, options.overlap, run)
    return finish(bands, plan.working, (pixels.shape[0], pixels.shape[1]), kind)


def _logits(
    engine: Engine, images: npt.NDArray[np.uint8], size: tuple[int, int], num_classes: int, *, rescale: bool
) -> FloatArray:
    """Finite logits (B, C, h, w) of images, at `size`."""
    wanted: tuple[Output, ...] = ("logits",)
    logits = engine.run(images, wanted, rescale=rescale)["logits"]
    _check_shape(engine, "logits", logits, (len(images), num_classes, *size))
    _refuse_not_finite(engine, "logits", logits)
    return logits


def _check_shape(engine: Engine, what: str, values: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise EngineError(
            f"engine {engine.name} gave {what} of shape {values.shape}, not {shape}; export the model again"
        )


def _refuse_not_finite(engine: Engine, what: str, values: npt.NDArray[np.float32]) -> None:
    # Both ends, which take no memory; NaN is both.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise _not_finite(engine, what)


def _not_finite(engine: Engine, what: str) -> EngineError:
    remedy = "its weights or its export are broken" if engine.precision == "f32" else "use precision f32"
    return EngineError(
        f"engine {engine.name} ({engine.precision}) gave {what} that are NaN or infinite for an image; {remedy}"
    )

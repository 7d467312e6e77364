"""Confidences in answers: means by class, and a plane of them."""

import base64

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.inference.result import encode_png
from roadseg_service.schemas import ConfidencePlane

_BAND_PIXELS = 1 << 18
"""Pixels that are summed at once: bincount takes 16 bytes for each."""


def mean_confidences(mask: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """(256,) mean confidence of the pixels of each id in a mask (H, W); NaN for ids that do not occur."""
    ids, values = mask.ravel(), confidence.ravel()
    sums, counts = np.zeros(256), np.zeros(256, np.int64)
    for start in range(0, len(ids), _BAND_PIXELS):
        part = slice(start, start + _BAND_PIXELS)
        sums += np.bincount(ids[part], weights=values[part], minlength=256)
        counts += np.bincount(ids[part], minlength=256)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / counts)


def confidence_plane(confidence: npt.NDArray[np.float32]) -> ConfidencePlane:
    """Confidences (H, W) in 0..1 as a grey PNG of 8 bits, which is off by at most 1/510."""
    grey = cv2.convertScaleAbs(confidence, alpha=255)  # rounds
    data = base64.b64encode(encode_png(Image.fromarray(np.asarray(grey)))).decode("ascii")
    return ConfidencePlane(media_type="image/png", scale=1 / 255, data=data)

"""The image under the colours of its classes."""

import io

import cv2
import numpy as np
from PIL import Image

from roadseg.images import DecodedImage
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import IGNORE_INDEX
from roadseg_service.answers.options import PNG, WEBP, AnswerOptions
from roadseg_service.problems import IMAGE_TOO_LARGE, ProblemError

WEBP_MAX_SIDE_PX = 16383  # 14 bits in the format
_WEBP_QUALITY = 90
_WEBP_EFFORT = 2  # of 0..6: beyond it files shrink by a few per cent, and the time doubles


def encode_overlay(result: SegmentationResult, options: AnswerOptions) -> bytes:
    """The blended picture as PNG or WebP; pixels of no class show the image alone, not darkened."""
    blended = result.overlay(options.opacity)
    undecided = cv2.compare(result.mask, IGNORE_INDEX, cv2.CMP_EQ)
    pixels = cv2.copyTo(result.image, undecided, blended)
    if options.media_type == PNG:
        # OpenCV's encoder takes a third of Pillow's time for a photograph, and an eighth more bytes.
        _, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        return encoded.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(buffer, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_EFFORT)
    return buffer.getvalue()


def refuse_beyond_webp(image: DecodedImage, options: AnswerOptions) -> None:
    """Refuse an image whose overlay WebP cannot hold; to be called before the network runs.

    Raises:
        ProblemError: image-too-large.
    """
    height, width = image.pixels.shape[:2]
    if options.media_type == WEBP and max(height, width) > WEBP_MAX_SIDE_PX:
        raise ProblemError(
            IMAGE_TOO_LARGE,
            f"the overlay would be {width}x{height} pixels, and a WebP has at most {WEBP_MAX_SIDE_PX} a side; accept "
            f"{PNG}, or send a smaller image",
        )

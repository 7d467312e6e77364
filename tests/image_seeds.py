"""Small valid images of every kind that is decoded, for mutation."""

import io

import cv2
import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
PHOTO = cv2.resize(RNG.integers(0, 256, (5, 7, 3), np.uint8), (56, 40))
NOISE = RNG.integers(0, 256, (16, 24, 3), np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(tag: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = tag
    return exif.tobytes()


def _deep(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()


_ALPHA = np.dstack([PHOTO, PHOTO[..., 0]])

SEEDS = [
    encoded(PHOTO, "JPEG"),
    encoded(PHOTO, "JPEG", progressive=True),
    encoded(PHOTO, "JPEG", restart_marker_blocks=2),
    encoded(PHOTO[..., 0], "JPEG", exif=_exif(6)),
    encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"),
    encoded(NOISE, "PNG", exif=_exif(5)),
    encoded(NOISE[..., 0], "PNG"),
    encoded(Image.fromarray(NOISE).quantize(16), "PNG", transparency=3),
    encoded(Image.fromarray(NOISE).convert("1"), "PNG"),
    encoded(_ALPHA, "PNG"),
    _deep(RNG.integers(0, 65536, (9, 13), np.uint16)),
    _deep(RNG.integers(0, 65536, (9, 13, 3), np.uint16)),
    encoded(PHOTO, "WEBP"),
    encoded(PHOTO, "WEBP", lossless=True, exif=_exif(8)),
    encoded(_ALPHA, "WEBP"),
]

"""Images for the service tests, all made here, and the masks that the fake network gives for them."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

NUM_CLASSES = 5


def mask_of(pixels):
    """The mask of the fake network: a class id from each pixel's colour, (..., 3) uint8 -> (...) uint8."""
    red, green, blue = (pixels[..., i].astype(int) for i in range(3))
    return ((red + 2 * green + 3 * blue) % NUM_CLASSES).astype(np.uint8)


def scene(height=24, width=40, seed=0):
    """An (H, W, 3) uint8 picture without any symmetry, so that no turn or mirroring goes unnoticed."""
    generator = np.random.default_rng([height, width, seed])
    coarse = generator.integers(0, 256, (3 + height // 8, 4 + width // 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def encode(pixels, kind="PNG", **options):
    """Encode pixels (H, W, 3) or (H, W), or a PIL image."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels=None, **options):
    return encode(scene() if pixels is None else pixels, "PNG", **options)


def jpeg(pixels=None, **options):
    return encode(scene() if pixels is None else pixels, "JPEG", **{"quality": 90, **options})


def webp(pixels=None, **options):
    return encode(scene() if pixels is None else pixels, "WEBP", **{"quality": 90, **options})


def opened(data):
    """What Pillow alone makes of the bytes, an independent reference for the service's decoder."""
    return Image.open(io.BytesIO(data))


def rgb(data):
    return np.asarray(opened(data).convert("RGB"))


def with_orientation(kind, tag, pixels=None):
    exif = Image.Exif()
    exif[0x0112] = tag
    return encode(scene() if pixels is None else pixels, kind, exif=exif.tobytes())


def animation(kind, frames=3):
    images = [Image.fromarray(scene(seed=i)) for i in range(frames)]
    return encode(images[0], kind, save_all=True, append_images=images[1:])


def png16(values):
    """A 16-bit PNG of (H, W) grey or (H, W, 3) RGB uint16."""
    bgr = values if values.ndim == 2 else values[..., ::-1]
    return cv2.imencode(".png", bgr)[1].tobytes()


def pixel_bomb(side):
    """A valid one-bit black PNG of side x side pixels in about a thousandth of its raster's bytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )

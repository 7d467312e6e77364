"""Files and forms put together byte by byte: what no encoder or HTTP client writes."""

import struct
import zlib

import numpy as np
from PIL import Image
from service_corpus import jpeg


def chunk(name, data=b"", crc=None):
    checksum = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png_of(width, height, depth, colour, rows, *between, interlace=0):
    """A PNG file of filtered rows, with chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    parts = [b"\x89PNG\r\n\x1a\n", header, *between, chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND")]
    return b"".join(parts)


def png_rows(values):
    """Unfiltered rows of (H, N) bytes."""
    return b"".join(b"\0" + row.tobytes() for row in values)


def packed(values, bits):
    """(H, W) small numbers, `bits` each, packed into bytes as PNG does."""
    planes = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(planes.reshape(len(values), -1).astype(np.uint8), axis=1)


def with_chunks(data, *chunks):
    """A PNG file with more chunks behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def adam7(values):
    """Rows of the seven passes of (H, W, N) bytes a pixel."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = (values[y::dy, x::dx] for y, x, dy, dx in passes)
    return b"".join(png_rows(part.reshape(len(part), -1)) for part in parts if part.size)


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def behind_start(data, *segments):
    """A JPEG file with more segments behind its first marker."""
    return data[:2] + b"".join(segments) + data[2:]


def frame_at(data):
    return next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC1, 0xC2))


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def riff(*chunks):
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def exif_of(tag, kind=3, order=">"):
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, kind, 1, tag, 0, 0)


def with_exif(data, exif):
    return behind_start(data, segment(0xE1, b"Exif\0\0" + exif))


def part(data, *headers, disposition=b'form-data; name="file"; filename="a.png"'):
    lines = [b"Content-Disposition: " + disposition, *headers]
    return b"--b\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + data + b"\r\n"


def form(*parts, before=b"", behind=b""):
    return before + b"".join(parts) + b"--b--\r\n" + behind


def cmyk(transform):
    """A CMYK JPEG in even 8x8 blocks, which compression leaves as they are; with Adobe's marker or without."""
    blocks = np.random.default_rng(0).integers(0, 256, (3, 5, 4), np.uint8).repeat(8, 0).repeat(8, 1)
    data = jpeg(Image.fromarray(blocks, "CMYK"), quality=100, subsampling=0)
    adobe = data.index(b"\xff\xee")
    if transform is None:
        return data[:adobe] + data[adobe + 16 :], blocks
    return patched(data, adobe + 15, bytes([transform])), blocks


def rgb_of_cmyk(planes):
    """Without a colour profile: what ink and black leave of white."""
    light = 255 - planes.astype(float)
    return np.round(light[..., :3] * light[..., 3:] / 255)

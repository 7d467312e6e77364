"""What the decoder does below the service: memory, the process-wide switches of Pillow, reading by parts."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from roadseg.errors import CorruptImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from roadseg.images import decode_image, inspect_image
from tests.image_seeds import NOISE, PHOTO, SEEDS, encoded


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(9000))
    chunks = (header, body, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(PHOTO, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_header(width: int, height: int) -> bytes:
    data = bytearray(encoded(PHOTO, "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


@pytest.mark.parametrize("make", [png_header, jpeg_header, webp_header])
@pytest.mark.parametrize("side", [9000, 16384])
def test_a_bomb_is_refused_by_its_header_before_anything_is_allocated(make, side):
    bomb = make(side, side)
    assert len(bomb) < 10_000
    tracemalloc.start()
    before = peak_resident_bytes()
    try:
        with pytest.raises(ImageTooLargeError, match=f"is {side}x{side} = {side * side} pixels"):
            decode_image(bomb, max_pixels=50_000_000)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert peak_resident_bytes() - before < 8_000_000  # what C allocates, too; the raster would be 240 MB


def peak_resident_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def test_a_side_is_bounded_by_itself():
    data = encoded(np.zeros((3, 900), np.uint8), "PNG")
    assert decode_image(data, max_side_px=900).pixels.shape == (3, 900, 3)
    with pytest.raises(ImageTooLargeError, match="image is 900x3; at most 899 pixels are accepted along a side"):
        decode_image(data, max_side_px=899)


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_no_cut_passes_even_when_another_library_makes_pillow_take_them(seed, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = SEEDS[seed]
    for length in range(len(data)):
        with pytest.raises((CorruptImageError, UnsupportedImageError)):
            decode_image(data[:length])


def test_a_png_that_is_whole_but_holds_too_little_is_refused_with_that_switch_on(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(CorruptImageError, match="truncated"):
        decode_image(png_header(60, 60))


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_even_black_and_grey_pictures_are_no_truncated_ones(kind, colour):
    picture = np.full((50, 70, 3), colour, np.uint8)
    assert np.abs(decode_image(encoded(picture, kind)).pixels.astype(int) - picture).max() <= 1


def test_pillow_is_given_the_picture_alone():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "who took it and where"
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(PHOTO, kind, exif=exif.tobytes(), icc_profile=b"a profile" * 99)
        bare = inspect_image(data + b"what is behind").bare()
        opened = Image.open(io.BytesIO(bare))
        opened.load()
        assert b"who took it" in data and b"who took it" not in bare and b"a profile" not in bare
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(opened.info)
        assert inspect_image(data).exif_orientation == 6


def test_looking_through_a_file_takes_time_in_proportion_and_is_bounded():
    chunk = struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))
    start = encoded(NOISE, "PNG")[:33]
    for hostile in (start + chunk * 2_000_000, b"\xff\xd8" + b"\xff\xfe\0\2" * 2_000_000, b"<!---->" * 1_000_000):
        with pytest.raises(ImageError):
            inspect_image(hostile)


@pytest.mark.parametrize(("value", "expected"), [(257 * 200, 200), (256 * 200, 200), (255, 0), (65535, 255), (0, 0)])
def test_widened_eight_bit_values_come_back_from_sixteen(value, expected):
    data = encoded(Image.fromarray(np.full((2, 3), value, np.uint16)), "PNG")
    assert (decode_image(data).pixels == expected).all()


def test_a_picture_has_its_orientation_from_exif_and_not_from_xmp():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode_image(encoded(PHOTO, "JPEG", xmp=xmp)).exif_orientation == 1

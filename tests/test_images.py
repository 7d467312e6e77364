"""The shared decoder: what each kind of file becomes, and what is refused."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from roadseg.errors import CorruptImageError, DataError, ImageTooLargeError, UnsupportedImageError
from roadseg.images import decode_image, find_images, image_from_array, image_from_pil, read_image

RNG = np.random.default_rng(0)
PHOTO = cv2.resize(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8), (90, 60))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_comes_back_exactly_and_writable_in_memory_order():
    decoded = decode_image(encoded(Image.fromarray(PHOTO), "PNG"))
    assert np.array_equal(decoded.pixels, PHOTO) and decoded.pixels.flags.c_contiguous
    assert (decoded.format, decoded.exif_orientation, decoded.orientation) == ("PNG", 1, "displayed")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_agree_with_opencv(kind):
    data = encoded(Image.fromarray(PHOTO), kind, quality=95)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decode_image(data).pixels.astype(int) - other).max() <= 3


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied_reported_and_optional(tag, kind):
    exif = Image.Exif()
    exif[0x0112] = tag
    data = encoded(Image.fromarray(PHOTO), kind, exif=exif)
    displayed, stored = decode_image(data), decode_image(data, orientation="stored")
    reference = Image.open(io.BytesIO(data))
    assert displayed.exif_orientation == stored.exif_orientation == tag
    assert np.array_equal(stored.pixels, np.asarray(reference.convert("RGB")))
    assert np.array_equal(displayed.pixels, np.asarray(ImageOps.exif_transpose(reference).convert("RGB")))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_a_meaningless_orientation_is_none(value):
    exif = Image.Exif()
    exif[0x0112] = value
    decoded = decode_image(encoded(Image.fromarray(PHOTO), "JPEG", exif=exif))
    assert decoded.exif_orientation == 1 and decoded.pixels.shape == PHOTO.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_not_clipped(channels):
    deep = RNG.integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    data = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    expected = np.broadcast_to(deep >> 8, (20, 30, 3))
    assert np.array_equal(decode_image(data).pixels, expected)


def test_grey_palette_one_bit_alpha_and_cmyk_become_rgb():
    grey = Image.fromarray(PHOTO).convert("L")
    assert np.array_equal(decode_image(encoded(grey, "PNG")).pixels, np.asarray(grey)[..., None].repeat(3, -1))
    palette = Image.fromarray(PHOTO).quantize(16)
    assert np.array_equal(decode_image(encoded(palette, "PNG")).pixels, np.asarray(palette.convert("RGB")))
    bits = grey.convert("1")
    assert set(np.unique(decode_image(encoded(bits, "PNG")).pixels)) == {0, 255}
    alpha = Image.fromarray(np.dstack([PHOTO, np.full(PHOTO.shape[:2], 7, np.uint8)]))
    assert np.array_equal(decode_image(encoded(alpha, "PNG")).pixels, PHOTO)
    cmyk = Image.fromarray(PHOTO).convert("CMYK")
    assert np.abs(decode_image(encoded(cmyk, "JPEG", quality=98)).pixels.astype(int) - PHOTO).mean() < 4


def test_a_transparent_palette_keeps_its_colours():
    palette = Image.fromarray(PHOTO).quantize(16)
    data = encoded(palette, "PNG", transparency=3)
    assert np.array_equal(decode_image(data).pixels, np.asarray(palette.convert("RGB")))


def test_bytes_behind_the_image_are_ignored():
    data = encoded(Image.fromarray(PHOTO), "JPEG")
    assert np.array_equal(decode_image(data + b"a motion photo's film" * 99).pixels, decode_image(data).pixels)


def test_a_multi_picture_jpeg_gives_its_first_picture():
    data = encoded(Image.fromarray(PHOTO), "MPO", save_all=True, append_images=[Image.fromarray(PHOTO[::-1].copy())])
    decoded = decode_image(data)
    assert decoded.format == "JPEG" and np.abs(decoded.pixels.astype(int) - PHOTO).mean() < 8


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind):
    frames = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImageError, match="is an animation of 2 frames; send one still image"):
        decode_image(data)


@pytest.mark.parametrize(
    "data",
    [
        b"<!doctype html><title>404</title>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"II*\0" + bytes(99),
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"x",
    ],
)
def test_other_files_are_refused_whatever_their_name(data):
    with pytest.raises(UnsupportedImageError, match=r"photo.jpg is not a JPEG, PNG or WebP image: it (is|begins with)"):
        decode_image(data, name="photo.jpg")


def test_gif_and_bmp_are_refused():
    for kind in ("GIF", "BMP", "TIFF"):
        with pytest.raises(UnsupportedImageError, match="convert it to one of these"):
            decode_image(encoded(Image.fromarray(PHOTO), kind))


def test_no_bytes_are_refused():
    with pytest.raises(CorruptImageError, match=r"image is empty \(0 bytes\)"):
        decode_image(b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_truncated_files_are_refused(kind, tenth):
    data = encoded(Image.fromarray(RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)), kind)
    with pytest.raises(CorruptImageError, match=r"image .*(truncated|damaged)"):
        decode_image(data[: len(data) * tenth // 10])


def test_a_bomb_is_refused_before_it_is_decoded():
    bomb = encoded(Image.new("L", (20000, 8000)), "PNG")
    assert len(bomb) < 200_000
    with pytest.raises(ImageTooLargeError, match=r"image is 20000x8000 = 160000000 pixels; at most 50000000 pixels"):
        decode_image(bomb, max_pixels=50_000_000)


def test_a_bomb_beyond_pillows_own_bound_is_refused_the_same_way():
    header = encoded(Image.new("1", (30000, 30000)), "PNG")
    with pytest.raises(ImageTooLargeError, match="is 30000x30000 = 900000000 pixels; at most 178956970 pixels"):
        decode_image(header)


def test_wrong_orientation_is_a_programming_error():
    with pytest.raises(ValueError, match="orientation is 'upright'; use 'displayed' or 'stored'"):
        decode_image(encoded(Image.fromarray(PHOTO), "PNG"), orientation="upright")


def test_files_are_found_in_order_and_named_when_missing(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("b/2.JPG", "b/deep/1.png", "b/notes.txt", "a.webp"):
        (tmp_path / name).write_bytes(b"")
    assert find_images([tmp_path / "b", tmp_path / "a.webp"]) == [
        tmp_path / "b/2.JPG", tmp_path / "b/deep/1.png", tmp_path / "a.webp",
    ]  # fmt: skip
    with pytest.raises(DataError, match="nothing does not exist; give image files, or folders"):
        find_images([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no image; looked for \.jpeg"):
        find_images([tmp_path / "empty"])


def test_an_unreadable_path_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone.png: No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PHOTO[..., 0], r"shape \(H, W, 3\) in RGB order; got shape \(60, 90\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got shape \(0, 4, 3\)"),
        (PHOTO / 255.0, r"is uint8 with values 0..255; got float64"),
        ([[1, 2, 3]], "got list"),
    ],
)
def test_arrays_of_another_kind_are_refused(array, message):
    with pytest.raises(UnsupportedImageError, match=message):
        image_from_array(array)


def test_pil_images_follow_the_same_rules():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(io.BytesIO(encoded(Image.fromarray(PHOTO), "PNG", exif=exif)))
    assert np.array_equal(image_from_pil(picture).pixels, np.rot90(PHOTO, -1))
    with pytest.raises(UnsupportedImageError, match="has no pixels: its size is 0x5"):
        image_from_pil(Image.new("RGB", (0, 5)))
    with pytest.raises(CorruptImageError, match="pixel type F has no defined range; save it with 8 or 16 bits"):
        image_from_pil(Image.new("F", (3, 3)))

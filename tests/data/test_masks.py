"""Index masks against PNGs that are written here byte by byte, and the mapping of label ids."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data.masks import LabelTable, read_index_mask, read_index_rows
from roadseg.errors import DataError

GREY, PALETTE = 0, 3
WIDTH, HEIGHT = 13, 5
"""Rows of 13 pixels end within a byte at 1, 2 and 4 bits."""
PATH = Path("masks/x.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path, ids: np.ndarray, bits: int, colour_type: int, before_pixels: bytes = b"") -> Path:
    rows = []
    for row in ids.tolist():
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(b"\0" + bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8)))
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, colour_type, 0, 0, 0)
    # Colours that are far from the indices and out of order, so that none can pass for an index.
    palette = b"".join(bytes(((37 * i + 90) % 256, 255 - i // 2, 200)) for i in range(2**bits if bits < 16 else 0))
    parts = [chunk(b"IHDR", header)]
    parts += [chunk(b"PLTE", palette)] if colour_type == PALETTE else []
    parts += [before_pixels, chunk(b"IDAT", zlib.compress(b"".join(rows))), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def ids_of(bits: int) -> np.ndarray:
    """Every id of up to 4 bits; of more bits the lowest, the highest, and some between."""
    ids = np.arange(WIDTH * HEIGHT) % 2**bits
    ids[-3:] = 2**bits - 1, 2 ** (bits - 1), 0
    return ids.reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("bits", "colour_type"),
    [(8, GREY), (16, GREY), (1, PALETTE), (2, PALETTE), (4, PALETTE), (8, PALETTE)],
)
def test_the_ids_in_the_file_are_the_ids_read(tmp_path, bits, colour_type):
    mask = read_index_mask(write_png(tmp_path / "x.png", ids_of(bits), bits, colour_type))
    assert mask.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert mask.tolist() == ids_of(bits).tolist()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_greys_in_order_is_still_a_palette(tmp_path, bits):
    image = Image.fromarray(ids_of(bits).astype(np.uint8), mode="P")
    image.putpalette([value for i in range(2**bits) for value in [i * 255 // (2**bits - 1)] * 3])
    image.save(tmp_path / "x.png", bits=bits)
    data = (tmp_path / "x.png").read_bytes()
    assert (data[24], data[25]) == (bits, PALETTE)
    assert read_index_mask(tmp_path / "x.png").tolist() == ids_of(bits).tolist()


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("highest", [True, False])
def test_grey_of_few_bits_is_refused_whatever_ids_it_holds(tmp_path, bits, highest):
    ids = ids_of(bits) if highest else np.zeros((HEIGHT, WIDTH), int)
    path = write_png(tmp_path / "x.png", ids, bits, GREY)
    with pytest.raises(DataError, match=f"^mask {re.escape(str(path))} is grey of {bits} bits.*export it with 8 bits"):
        read_index_mask(path)


def test_grey_of_few_bits_with_a_transparent_value_is_refused(tmp_path):
    path = write_png(tmp_path / "x.png", ids_of(4), 4, GREY, chunk(b"tRNS", b"\0\3"))
    with pytest.raises(DataError, match="is grey of 4 bits"):
        read_index_mask(path)


def test_a_transparent_value_changes_no_id(tmp_path):
    grey = write_png(tmp_path / "grey.png", ids_of(8), 8, GREY, chunk(b"tRNS", b"\0\3"))
    palette = write_png(tmp_path / "palette.png", ids_of(4), 4, PALETTE, chunk(b"tRNS", b"\0\x80\xff"))
    assert read_index_mask(grey).tolist() == ids_of(8).tolist()
    assert read_index_mask(palette).tolist() == ids_of(4).tolist()


def test_black_and_white_is_refused(tmp_path):
    path = write_png(tmp_path / "x.png", ids_of(1), 1, GREY)
    with pytest.raises(DataError, match=r"x.png is black and white \(1 bit\).*export it with 8 bits"):
        read_index_mask(path)


def test_a_png_without_pixels_is_refused_by_name(tmp_path):
    path = write_png(tmp_path / "x.png", ids_of(8), 8, GREY)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"IDAT") - 4] + chunk(b"IEND", b""))
    with pytest.raises(DataError, match="mask .*x.png cannot be read"):
        read_index_mask(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_label_table_maps_alike_whatever_the_type(dtype):
    targets = {0: 4, 7: 0, 8: 255, 255: 1}
    labels = np.array([[0, 7, 8], [255, 7, 0]], dtype)
    mapped = LabelTable(targets).apply(labels, PATH)
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [[4, 0, 255], [1, 0, 4]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_unknown_ids_are_refused_alike_whatever_the_type(dtype):
    labels = np.array([[0, 2, 2], [9, 7, 0]], dtype)
    message = (
        r"^mask masks/x.png holds 2 values outside .*: 2 \(2 pixels\), 9 \(1 pixels\); allowed are 0, 7 to 8, 255:"
    )
    with pytest.raises(DataError, match=message):
        LabelTable({0: 4, 7: 0, 8: 255, 255: 1}).apply(labels, PATH)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_ids_of_256_and_more_do_not_wrap(dtype):
    table = LabelTable({0: 1, 1: 2, 256: 3, 257: 4, 65535: 5})
    labels = np.array([[0, 1, 256], [257, 65535, 0]], dtype)
    assert table.apply(labels, PATH).tolist() == [[1, 2, 3], [4, 5, 1]]
    with pytest.raises(DataError, match=r"1 value outside the label set: 256 \(1 pixels\); allowed are 0 to 1:"):
        LabelTable({0: 0, 1: 1}).apply(np.array([[0, 256]], dtype), PATH)


@pytest.mark.parametrize("bits", [8, 16])
def test_ids_that_stay_the_same_do_so_in_all_file_types(tmp_path, bits):
    ids = np.array([[0, 1, 18], [255, 18, 0]])
    table = LabelTable({i: i for i in [*range(19), 255]})
    mask = table.apply(read_index_mask(write_png(tmp_path / "x.png", ids, bits, GREY)), PATH)
    assert mask.dtype == np.uint8
    assert mask.tolist() == ids.tolist()


@pytest.mark.parametrize("strange", [-1, -65536, 65536, 65536 + 7, 2**31 - 1])
@pytest.mark.parametrize("targets", [{0: 0, 7: 1, 65535: 2}, dict.fromkeys(range(65536), 0)])
def test_ids_that_no_mask_can_hold_are_refused(targets, strange):
    labels = np.array([[0, 7], [strange, 7]], np.int32)
    with pytest.raises(DataError, match=rf"holds 1 value outside the label set: {strange} \(1 pixels\);"):
        LabelTable(targets).apply(labels, PATH)


@pytest.mark.parametrize("strange", [65536, 65536 + 7, 2**32 - 1])
def test_unsigned_ids_that_no_mask_can_hold_are_refused(strange):
    with pytest.raises(DataError, match=rf"outside the label set: {strange} \(1 pixels\);"):
        LabelTable({0: 0, 7: 1}).apply(np.array([[7, strange]], np.uint32), PATH)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([*range(19), 255], "0 to 18, 255"),
        ([5], "5"),
        ([9, 3, 4, 1, 300, 301], "1, 3 to 4, 9, 300 to 301"),
    ],
)
def test_the_message_lists_all_ranges_of_allowed_ids(ids, words):
    with pytest.raises(DataError, match=rf"allowed are {words}: correct the mask"):
        LabelTable(dict.fromkeys(ids, 0)).apply(np.array([[200]], np.uint8), PATH)


def test_at_most_five_strange_ids_are_listed_and_all_are_counted():
    labels = np.repeat(np.arange(10, 18, dtype=np.uint8), 3).reshape(2, 12)
    with pytest.raises(DataError) as caught:
        LabelTable({0: 0}).apply(labels, PATH)
    assert "holds 8 values outside" in str(caught.value)
    assert re.findall(r"(\d+) \(3 pixels\)", str(caught.value)) == ["10", "11", "12", "13", "14"]


@pytest.mark.parametrize(("bits", "colour_type"), [(8, GREY), (16, GREY), (1, PALETTE), (4, PALETTE), (8, PALETTE)])
def test_the_uppermost_rows_are_those_of_the_whole_mask(tmp_path, bits, colour_type):
    path = write_png(tmp_path / "x.png", ids_of(bits), bits, colour_type)
    for rows in range(1, HEIGHT + 1):
        found = read_index_rows(path, (HEIGHT, WIDTH), rows)
        assert found.dtype == (np.uint16 if bits == 16 else np.uint8)
        assert found.tolist() == ids_of(bits)[:rows].tolist()


def test_the_uppermost_rows_of_a_file_of_many_chunks_and_every_filter(tmp_path):
    ids = np.random.default_rng(0).integers(0, 255, (700, 900), np.uint8)
    ids[100:600] = np.add.outer(np.arange(500), np.arange(900)) // 7  # smooth, so that rows are stored as differences
    Image.fromarray(ids).save(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().count(b"IDAT") > 2
    for rows in (1, 99, 350, 700):
        assert np.array_equal(read_index_rows(tmp_path / "x.png", (700, 900), rows), ids[:rows])


def test_damage_in_the_rows_is_found(tmp_path):
    ids = np.random.default_rng(0).integers(0, 255, (700, 900), np.uint8)
    Image.fromarray(ids).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"x\.png cannot be read \(.*truncated"):
        read_index_rows(tmp_path / "x.png", (700, 900), 500)


def test_only_a_whole_read_can_say_what_is_wrong_with_other_files(tmp_path):
    path = write_png(tmp_path / "x.png", ids_of(8), 8, GREY)
    data = bytearray(path.read_bytes())
    assert read_index_rows(path, (WIDTH, HEIGHT), 2) is None
    assert read_index_rows(tmp_path / "missing.png", (HEIGHT, WIDTH), 2) is None
    for at in (20, 28, 30):  # a width, an interlacing, a checksum that are not the header's
        damaged = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        path.write_bytes(damaged)
        assert read_index_rows(path, (HEIGHT, WIDTH), 2) is None


@pytest.mark.parametrize("mode", ["RGB", "1"])
def test_rows_of_no_ids_are_refused(tmp_path, mode):
    Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="an index mask is expected"):
        read_index_rows(tmp_path / "x.png", (HEIGHT, WIDTH), 2)

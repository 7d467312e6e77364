"""Colour-coded masks against a table look-up with a dict, and what is refused."""

import time

import numpy as np
import pytest
from PIL import Image

from roadseg.data.class_table import ClassTable, SourceLabel
from roadseg.data.label_files import ColourLabels, IndexLabels, read_colour_mask
from roadseg.errors import DataError

COLOURS = [(0, 0, 0), (255, 255, 255), (1, 2, 3), (3, 2, 1), (128, 64, 128), (0, 0, 1), (255, 0, 0)]
TABLE = ClassTable("toys", tuple(SourceLabel(i * 50, f"label_{i}", c) for i, c in enumerate(COLOURS)))


def write(path, rgb: np.ndarray):
    Image.fromarray(rgb).save(path)
    return path


def coded(shape: tuple[int, int], cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours and ids of a random mask with cells of some px."""
    cells = np.random.default_rng(cell).integers(0, len(COLOURS), (-(-shape[0] // cell), -(-shape[1] // cell)))
    place = np.kron(cells, np.ones((cell, cell), int))[: shape[0], : shape[1]]
    return np.array(COLOURS, np.uint8)[place], place * 50


@pytest.mark.parametrize(("shape", "cell"), [((37, 53), 5), ((40, 40), 1), ((1, 1), 1), ((1, 9), 2), ((7, 1), 1)])
def test_colours_become_their_labels_ids(tmp_path, shape, cell):
    rgb, ids = coded(shape, cell)
    read = ColourLabels(TABLE)(write(tmp_path / "a.png", rgb), shape)
    assert read.dtype == np.uint16 and np.array_equal(read, ids)


def test_palette_and_opaque_images_give_the_same_ids(tmp_path):
    rgb, ids = coded((24, 30), 4)
    for name, image in {
        "palette.png": Image.fromarray(rgb).quantize(16),
        "opaque.png": Image.fromarray(rgb).convert("RGBA"),
    }.items():
        image.save(tmp_path / name)
        assert np.array_equal(ColourLabels(TABLE)(tmp_path / name, (24, 30)), ids)


def test_strange_colours_are_counted_and_named_with_the_file(tmp_path):
    rgb, _ = coded((20, 20), 5)
    rgb[0, :4], rgb[10:12, 3] = (9, 8, 7), (255, 255, 254)
    rgb[19, 19] = (9, 8, 7)
    path = write(tmp_path / "strange.png", rgb)
    with pytest.raises(
        DataError,
        match=r"strange.png holds 2 colour\(s\) that are no label of 'toys': \(9, 8, 7\) in 5 pixels, "
        r"\(255, 255, 254\) in 2 pixels",
    ):
        ColourLabels(TABLE)(path, (20, 20))


@pytest.mark.parametrize(
    ("mode", "message"), [("L", r"holds numbers \(L\)"), ("1", r"holds numbers \(1\)"), ("RGBA", "partly transparent")]
)
def test_what_holds_no_colours_is_refused(tmp_path, mode, message):
    Image.new(mode, (8, 8)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=message):
        read_colour_mask(tmp_path / "mask.png")


def test_a_jpeg_and_an_index_mask_of_colours_are_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "mask.jpg")
    with pytest.raises(DataError, match="is a JPEG, whose compression changes ids"):
        ColourLabels(TABLE)(tmp_path / "mask.jpg", (8, 8))
    with pytest.raises(DataError, match=r"is an image of colours \(RGB\), but an index mask is expected"):
        IndexLabels()(write(tmp_path / "mask.png", np.zeros((8, 8, 3), np.uint8)), (8, 8))


def test_large_masks_take_little_longer_than_decoding_them(tmp_path):
    rgb, ids = coded((720, 960), 24)
    path, reader = write(tmp_path / "large.png", rgb), ColourLabels(TABLE)
    assert np.array_equal(reader(path, (720, 960)), ids)
    taken = {}
    for name, run in {"decode": lambda: read_colour_mask(path), "labels": lambda: reader(path, (720, 960))}.items():
        times = []
        for _ in range(7):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        taken[name] = min(times)
    assert taken["labels"] < 4 * taken["decode"] + 0.005

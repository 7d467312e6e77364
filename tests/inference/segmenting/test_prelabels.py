"""Pre-labels, read back by the tools' own code or by decoders written from the formats' descriptions."""

import json
import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocotools", reason="needs the serve extra")

from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from roadseg import load_taxonomy
from roadseg.data.datasets.cvat import open_cvat
from roadseg.errors import DataError, OutputError
from roadseg.inference.result import encode_mask
from roadseg.inference.segmenting.jobs import FileJob
from roadseg.inference.segmenting.prelabels import FORMATS, write_prelabels
from roadseg.inference.segmenting.prelabels.coco import compressed_counts
from roadseg.inference.segmenting.prelabels.format import Header
from roadseg.inference.segmenting.prelabels.label_studio import brush_rle
from roadseg.inference.segmenting.prelabels.runs import regions
from roadseg.inference.segmenting.prelabels.xml_text import attribute, element
from roadseg.inference.segmenting.shards import Shard
from roadseg.segment_options import PRELABELS
from roadseg.taxonomy import RoadClass, Taxonomy

TAXONOMY = load_taxonomy("camvid11")
HEADER = Header(TAXONOMY, "nano", "d" * 64, "/data/local-files/?d=drives/")


def blobs(seed, size):
    """Class ids in patches, some pixels alone, some 255."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 11, (5, 7), dtype=np.uint8)
    mask = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.NEAREST)).copy()
    mask[rng.random(size) < 0.03] = 3
    mask[rng.random(size) < 0.1] = 255
    return mask


MASKS = {
    "a.jpg": blobs(0, (37, 53)),
    'cam 1/<b> & "c".png': blobs(1, (16, 16)),
    "one_class.jpg": np.full((300, 400), 10, np.uint8),
    "nothing.jpg": np.full((8, 9), 255, np.uint8),
    "pixel.jpg": np.pad(np.zeros((1, 1), np.uint8), ((3, 4), (5, 6)), constant_values=255),
    "corner.jpg": np.pad(np.full((9, 9), 255, np.uint8), ((0, 1), (0, 1)), constant_values=7),
    "new\nline.jpg": blobs(2, (5, 4)),
    os.fsdecode(b"caf\xe9\x01.jpg"): blobs(3, (4, 5)),
}
SHOWN = {**{name: name for name in MASKS}, os.fsdecode(b"caf\xe9\x01.jpg"): "caf\\xe9\x01.jpg"}


@pytest.fixture
def frames(tmp_path):
    made = []
    for i, (name, mask) in enumerate(MASKS.items()):
        path = tmp_path / f"{i}.png"
        path.write_bytes(encode_mask(mask, TAXONOMY))
        made.append((FileJob(tmp_path / "x.jpg", path, name), {"mean_confidence": 0.5}))
    return made


def test_the_command_knows_every_format():
    assert sorted(PRELABELS) == sorted(FORMATS)


def test_coco_comes_back_from_pycocotools(frames, tmp_path):
    path = write_prelabels("coco", HEADER, frames, tmp_path)
    coco = COCO(str(path))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == list(SHOWN.values())
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == dict(enumerate(TAXONOMY.names, 1))
    for image, mask in zip(coco.loadImgs(coco.getImgIds()), MASKS.values(), strict=True):
        assert (image["height"], image["width"]) == mask.shape
        painted = np.full(mask.shape, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            own = coco.annToMask(annotation).astype(bool)
            assert (painted[own] == 255).all()
            painted[own] = annotation["category_id"] - 1
            encoded = coco_mask.encode(np.asfortranarray(own.astype(np.uint8)))
            assert annotation["segmentation"]["counts"].encode() == encoded["counts"]
            assert annotation["area"] == coco_mask.area(encoded)
            assert annotation["bbox"] == coco_mask.toBbox(encoded).tolist()
        assert np.array_equal(painted, mask)


def test_counts_of_any_length_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    for most in (2, 40, 2000, 100_000):
        counts = rng.integers(1, most, 41)
        own = np.zeros((int(counts.sum()), 1), np.uint8, order="F")
        ends = np.cumsum(counts)
        for start, end in zip(ends[:-1:2], ends[1::2], strict=False):
            own[start:end] = 1
        assert compressed_counts(counts).encode() == coco_mask.encode(own)["counts"]


def test_cvat_comes_back_by_the_descriptions_rule(frames, tmp_path):
    path = write_prelabels("cvat", HEADER, frames, tmp_path)
    root = ElementTree.parse(path).getroot()
    labels = {e.findtext("name"): e.findtext("color") for e in root.iterfind("meta/task/labels/label")}
    assert list(labels) == TAXONOMY.names and labels["road"] == f"#{bytes(TAXONOMY.classes[3].colour).hex()}"
    images = root.findall("image")
    assert [e.get("name") for e in images] == [name.replace("\x01", "\\x01") for name in SHOWN.values()]
    for image, mask in zip(images, MASKS.values(), strict=True):
        assert (int(image.get("height")), int(image.get("width"))) == mask.shape
        painted = np.full(mask.shape, 255, np.uint8)
        for drawn in image.findall("mask"):
            left, top, width, height = (int(drawn.get(k)) for k in ("left", "top", "width", "height"))
            pixels = [i % 2 for i, n in enumerate(drawn.get("rle").split(", ")) for _ in range(int(n))]
            inside = np.reshape(pixels, (height, width)).astype(bool)
            assert inside.any(0)[[0, -1]].all() and inside.any(1)[[0, -1]].all(), "the box is tight"
            painted[top : top + height, left : left + width][inside] = TAXONOMY.id_of(drawn.get("label"))
        assert np.array_equal(painted, mask)


def test_cvat_is_read_as_a_dataset(tmp_path):
    mask = blobs(4, (40, 60))
    (tmp_path / "images").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "a.png").write_bytes(encode_mask(mask, TAXONOMY))
    job = FileJob(tmp_path / "images" / "a.jpg", tmp_path / "a.png", "a.jpg")
    write_prelabels("cvat", HEADER, [(job, {})], tmp_path).rename(tmp_path / "annotations.xml")
    labels = np.asarray(open_cvat(tmp_path).read_labels(0, (40, 60)))
    assert np.array_equal(labels, np.where(mask == 255, 0, mask + 1))  # ids are positions plus one


def decoded_brush(rle):
    """A picture's bytes, by the description of @thi.ng/rle-pack, bit by bit."""
    bits, at = "".join(f"{byte:08b}" for byte in rle), 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < total:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        out += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert len(out) == total and len(bits) - at < 8
    return np.array(out, np.uint8)


def test_label_studio_comes_back_by_the_descriptions_rule(frames, tmp_path):
    path = write_prelabels("labelstudio", HEADER, frames, tmp_path)
    tasks = json.loads(path.read_text())
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=drives/cam%201/%3Cb%3E%20%26%20%22c%22.png"
    interface = ElementTree.parse(path.with_suffix(".xml")).getroot()
    brush, picture = interface.find("BrushLabels"), interface.find("Image")
    assert [label.get("value") for label in brush] == TAXONOMY.names and picture.get("value") == "$image"
    for task, mask in zip(tasks, MASKS.values(), strict=True):
        (prediction,) = task["predictions"]
        assert prediction["score"] == 0.5 and prediction["model_version"] == "d" * 12
        painted = np.full(mask.shape, 255, np.uint8)
        for result in prediction["result"]:
            assert (result["from_name"], result["to_name"]) == (brush.get("name"), picture.get("name"))
            assert (result["original_height"], result["original_width"]) == mask.shape
            assert result["type"] == "brushlabels" and result["value"]["format"] == "rle"
            rgba = decoded_brush(result["value"]["rle"]).reshape(*mask.shape, 4)
            assert (rgba == rgba[..., :1]).all() and set(np.unique(rgba)) <= {0, 255}
            (name,) = result["value"]["brushlabels"]
            painted[rgba[..., 3] == 255] = TAXONOMY.id_of(name)
        assert np.array_equal(painted, mask)


def test_class_names_of_any_characters_come_back_from_xml(tmp_path):
    names = ['a<b & "c"', "d'>\té", "\U0001f6e3 two\nlines\r"]
    classes = tuple(RoadClass(name, (i, 0, 255)) for i, name in enumerate(names))
    header = Header(Taxonomy("odd <&>", 1, classes), 'a "model" & its <name>', "d" * 64, "")
    mask = np.array([[0, 1, 2]], np.uint8)
    (tmp_path / "a.png").write_bytes(encode_mask(mask, header.taxonomy))
    frames = [(FileJob(tmp_path / "a.jpg", tmp_path / "a.png", "a.jpg"), {})]
    root = ElementTree.parse(write_prelabels("cvat", header, frames, tmp_path)).getroot()
    assert [label.findtext("name") for label in root.iterfind("meta/task/labels/label")] == names
    assert [drawn.get("label") for drawn in root.iterfind("image/mask")] == names
    assert 'a "model" & its <name>' in root.findtext("meta/task/name")
    path = write_prelabels("labelstudio", header, frames, tmp_path)
    (task,) = json.loads(path.read_text())
    drawn = [result["value"]["brushlabels"] for result in task["predictions"][0]["result"]]
    interface = ElementTree.parse(path.with_suffix(".xml")).getroot()
    assert [[label.get("value")] for label in interface.find("BrushLabels")] == drawn == [[name] for name in names]


@pytest.mark.parametrize("code", [0x00, 0x0B, 0x1F, 0xD800, 0xDCE9, 0xFFFE])
def test_characters_that_xml_cannot_say_are_written_out(code):
    text = f"a{chr(code)}b"
    xml = f"<x y={attribute(text)}>{element(text)}</x>".encode()
    parsed = ElementTree.fromstring(xml)
    assert parsed.text == parsed.get("y") == f"a\\x{code:02x}b"


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 16, 64, 65, 16384, 16385, 40000])
def test_brush_runs_of_every_size_come_back(length):
    pixels = np.concatenate([np.full(length, 255, np.uint8), np.zeros(length, np.uint8), np.full(1, 255, np.uint8)])
    (region,) = regions(pixels)
    assert np.array_equal(decoded_brush(brush_rle(region)), np.repeat(255 * (pixels == 0), 4))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_file_is_whole_or_not_there(frames, tmp_path, name):
    frames[3][0].mask.write_bytes(b"no mask")
    with pytest.raises(DataError, match=r"cannot read the mask .*3.png.*; segment again with --resume"):
        write_prelabels(name, HEADER, frames, tmp_path)
    assert not list(tmp_path.glob("*prelabels*")) and not list(tmp_path.glob(".*"))
    with pytest.raises(OutputError, match="choose another place or make room"):
        write_prelabels(name, HEADER, [], tmp_path / "0.png")
    empty = write_prelabels(name, HEADER, [], tmp_path, shard=Shard(1, 2))
    assert empty.stem.endswith("-1-of-2") and empty.stat().st_size > 1

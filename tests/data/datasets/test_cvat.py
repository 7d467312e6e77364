"""CVAT's XML as the tool writes it, and what is no such file."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from roadseg.data.datasets.cvat import open_cvat
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError, DataError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

SIZE = (40, 60)
META = """
  <version>1.1</version>
  <meta>
    <task>
      <id>4</id><name>my_task</name><size>1</size><mode>annotation</mode>
      <labels>
        <label><name>road</name><color>#804080</color><type>any</type><attributes></attributes></label>
        <label><name>vehicle</name><color>#00008e</color><type>any</type><attributes></attributes></label>
        <label><name>knee</name><color>#00008e</color><parent>body</parent></label>
      </labels>
    </task>
    <dumped>2024-01-01 00:00:00+00:00</dumped>
  </meta>"""
COMMON = 'source="manual" occluded="0"'


def image(shapes: str = "", name: str = "a/x.jpg", key: int = 0, size: tuple[int, int] = SIZE, more: str = "") -> str:
    return f'<image id="{key}" name="{name}" width="{size[1]}" height="{size[0]}" {more}>{shapes}</image>'


def polygon(points: str, label: str = "road", z: int = 0) -> str:
    return (
        f'<polygon label="{label}" {COMMON} points="{points}" z_order="{z}"><attribute name="n">1</attribute></polygon>'
    )


def box(x0: float, y0: float, x1: float, y1: float, label: str = "vehicle", z: int = 0, more: str = "") -> str:
    corners = f'xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"'
    return f'<box label="{label}" {COMMON} {corners} z_order="{z}" {more}></box>'


def mask(rle: str, left: int, top: int, width: int, height: int, label: str = "vehicle", z: int = 0) -> str:
    place = f'rle="{rle}" left="{left}" top="{top}" width="{width}" height="{height}"'
    return f'<mask label="{label}" {COMMON} {place} z_order="{z}"></mask>'


def write(root: Path, *images: str, files: tuple[str, ...] = ("a/x.jpg",), meta: str = META) -> Path:
    for file in files:
        path = root / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{"".join(images)}</annotations>'
    (root / "annotations.xml").write_text(text)
    return root


def labels(root: Path, shapes: str, **options) -> np.ndarray:
    return open_cvat(write(root, image(shapes)), **options).read_labels(0, SIZE)


def test_labels_have_the_ids_colours_and_meanings_of_the_file(tmp_path):
    source = open_cvat(write(tmp_path, image(box(10, 10, 20, 20))))
    table = source.classes
    assert [(x.id, x.name, x.colour) for x in table.labels] == [
        (0, "unannotated", None),
        (1, "road", (128, 64, 128)),
        (2, "vehicle", (0, 0, 142)),
    ]
    hdmap = load_taxonomy("hdmap")
    picture = MappedFrames(source, LabelSets.collect(hdmap, table.sets_in(hdmap).values()))[0][1]
    assert picture[15, 15] == hdmap.id_of("vehicle") and picture[0, 0] == 255
    assert open_cvat(tmp_path, background="road").read_labels(0, SIZE)[0, 0] == 1


def test_polygons_are_those_of_pillow_and_z_order_decides_before_the_order_of_the_file(tmp_path):
    shapes = polygon("3.4,38.2;20.7,10.1;41.2,10.9", z=2) + box(10, 5, 30.5, 30) + polygon("0,0;59,0;59,39;0,39", z=-1)
    canvas = Image.new("L", SIZE[::-1])
    draw = ImageDraw.Draw(canvas)
    draw.polygon([(0, 0), (59, 0), (59, 39), (0, 39)], fill=1)
    draw.polygon([(10, 5), (30.5, 5), (30.5, 30), (10, 30)], fill=2)
    draw.polygon([(3.4, 38.2), (20.7, 10.1), (41.2, 10.9)], fill=1)
    assert np.array_equal(labels(tmp_path, shapes), np.array(canvas))
    assert labels(tmp_path, box(1, 1, 9, 9) + polygon("1,1;9,1;9,9;1,9"))[5, 5] == 1
    assert labels(tmp_path, polygon("1,1;9,1;9,9;1,9") + box(1, 1, 9, 9))[5, 5] == 2


def test_masks_run_along_the_rows_of_their_box_and_leave_holes(tmp_path):
    bits = np.array([[0, 1, 1], [1, 0, 0]], bool)
    found = labels(tmp_path, polygon("0,0;59,0;59,39;0,39") + mask("1, 3, 2", 7, 4, 3, 2))
    expected = np.ones(SIZE, int)
    expected[4:6, 7:10][bits] = 2
    assert np.array_equal(found, expected)
    assert labels(tmp_path, mask("0, 6", 57, 38, 3, 2))[38:, 57:].sum() == 12


def test_a_turned_box_turns_clockwise_about_its_middle(tmp_path):
    found = labels(tmp_path, box(20, 18, 40, 22, more='rotation="90.0"')) == 2
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert (abs(rows[[0, -1]] - [10, 30]) <= 1).all() and (abs(columns[[0, -1]] - [28, 32]) <= 1).all()
    found = labels(tmp_path, box(20, 18, 40, 22, more='rotation="30.0"')) == 2
    corners = np.array([20 + 18j, 40 + 18j, 40 + 22j, 20 + 22j])
    turned = 30 + 20j + (corners - 30 - 20j) * np.exp(1j * np.pi / 6)  # clockwise, as y points down
    canvas = Image.new("1", SIZE[::-1])
    ImageDraw.Draw(canvas).polygon([(z.real, z.imag) for z in turned], fill=1)
    assert np.array_equal(found, np.array(canvas)) and found[24, 37] and not found[16, 37]


def test_polylines_are_drawn_at_the_width_asked_for(tmp_path):
    line = f'<polyline label="road" {COMMON} points="5,20;50,20" z_order="0"></polyline>'
    for width in (1, 4, 9):
        assert abs(int((labels(tmp_path, line, line_width_px=width)[:, 30] == 1).sum()) - width) <= 1
    with pytest.raises(ConfigError, match=r"line_width_px is 0; use 1 or more"):
        open_cvat(tmp_path, line_width_px=0)


def test_splits_and_drives_come_from_subsets_and_folders(tmp_path):
    files = ("a/x.jpg", "Validation/y.jpg", "z.jpg", "train/b/w.jpg")
    images = [
        image(name="a/x.jpg", more='subset="Test" task_id="1"'),
        image(name="y.jpg", more='subset="Validation"'),
        image(name="z.jpg", more='subset="default"'),
        image(name="train/b/w.jpg"),
    ]
    frames = open_cvat(write(tmp_path, *images, files=files)).frames
    assert {f.name: (f.split, f.drive) for f in frames} == {
        "a/x": ("test", "a"),
        "Validation/y": ("val", "y"),
        "z": ("train", "z"),
        "train/b/w": ("train", "b"),
    }
    assert open_cvat(tmp_path, split="val").frames.splits == ["val"]


def test_images_keep_their_own_shapes_though_their_ids_repeat(tmp_path):
    files = ("1.jpg", "2.jpg", "3.jpg")  # projects count from 0 in every task
    images = [image(box(0, 0, 5, 5), "2.jpg"), image("", "3.jpg"), image(polygon("0,0;5,0;5,5;0,5"), "1.jpg")]
    source = open_cvat(write(tmp_path, *images, files=files))
    assert [int(source.read_labels(i, SIZE)[2, 2]) for i in range(3)] == [1, 2, 0]
    (tmp_path / "annotations.xml").unlink()
    copy = pickle.loads(pickle.dumps(source))
    assert [int(copy.read_labels(i, SIZE)[2, 2]) for i in range(3)] == [1, 2, 0]


def test_tags_of_whole_images_are_passed_over(tmp_path):
    assert labels(tmp_path, f'<tag label="vehicle" {COMMON}></tag>').sum() == 0


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (polygon("1,1;5,5"), r"\(a/x.jpg\), polygon 0 \('road'\) has 2 point\(s\), 3 are needed"),
        (polygon("1,1;5,5;7"), r"polygon 0 \('road'\): points must be pairs"),
        (polygon("1,1;5,5;7,x"), r"points must be x,y;x,y"),
        (polygon(""), r"points must be x,y;x,y"),
        (polygon("1,1;5,5;7,inf"), r"points must be pairs of numbers"),
        (polygon("1,1;5,5;7,1e12"), r"nowhere near"),
        (
            polygon("1,1;5,5;7,7", label="tree"),
            r"image 'a/x.jpg', polygon 0 has label 'tree', which is none of road, veh",
        ),
        (polygon("1,1;5,5;7,7", label="knee"), r"has label 'knee', which is none"),
        (f'<points label="road" {COMMON} points="1,1" z_order="0"></points>', r"points 0 \('road'\) has no area here"),
        (f'<cuboid label="road" {COMMON}></cuboid>', r"cuboid 0 .*use polygon, polyline, box, mask"),
        (mask("1, 3, 2", 58, 4, 3, 2), r"covers 3x2 from \(58, 4\), which is not within the image of 60x40"),
        (mask("1, 3, 2", -1, 4, 3, 2), r"not within the image"),
        (mask("1, 3", 1, 4, 3, 2), r"describes 4 pixels, but 3x2 has 6"),
        (mask("7, -1", 1, 4, 3, 2), r"run lengths must be whole numbers of 0 or more"),
        (mask("1, a", 1, 4, 3, 2), r"rle must be whole numbers"),
        (mask("6", 1, 4, "3.5", 2), r"width is 3.5, which is no whole number"),  # type: ignore[arg-type]
        (box(1, 1, "x", 2), r"xbr is 'x', which is no number"),  # type: ignore[arg-type]
        ('<box label="road" xtl="1"></box>', r"has no attribute ytl"),
        (polygon("1,1;5,5;7,7", z="up"), r"z_order is 'up', which is no number"),  # type: ignore[arg-type]
    ],
)
def test_broken_shapes_are_named(tmp_path, shapes, message):
    with pytest.raises(DataError, match=message):
        labels(tmp_path, shapes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><meta></meta><image", r"annotations.xml is not XML, or was cut off"),
        ("", r"annotations.xml is not XML, or was cut off"),
        ("{}", r"annotations.xml is not XML"),
        ("<html></html>", r"is not a CVAT file: its root is <html>"),
        ('<annotations><track id="0" label="road"></track></annotations>', r"export of a video"),
        ("<annotations></annotations>", r"lists no image"),
        ('<annotations><image id="0" width="1"></image></annotations>', r"image 0 has no attribute name"),
        ('<annotations><image name="a/x.jpg" width="1"></image></annotations>', r"image 0 has no attribute height"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    write(tmp_path)
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        open_cvat(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp037"])
def test_files_that_declare_entities_are_refused_before_any_is_expanded(tmp_path, encoding):
    write(tmp_path)
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    text = f"<!DOCTYPE x [{entities}]><annotations>&a11;</annotations>"
    data = (head + text).encode(encoding) if encoding != "cp037" else head.encode() + text.encode("cp037")
    (tmp_path / "annotations.xml").write_bytes(data)
    with pytest.raises(DataError, match=r"annotations.xml (has a DOCTYPE declaration|is not XML)"):
        open_cvat(tmp_path)
    (tmp_path / "annotations.xml").write_text('<!DOCTYPE annotations SYSTEM "file:///etc/passwd"><annotations/>')
    with pytest.raises(DataError, match=r"annotations.xml has a DOCTYPE declaration, which CVAT never writes"):
        open_cvat(tmp_path)


def test_missing_images_and_files_are_named(tmp_path):
    write(tmp_path, image(), image(name="gone.png", key=1))
    with pytest.raises(DataError, match=r"lists 1 image\(s\) that are not in .*images: gone.png"):
        open_cvat(tmp_path)
    write(tmp_path, image(), image(key=1))
    with pytest.raises(DataError, match=r"lists a/x.jpg twice, as images 0 and 1"):
        open_cvat(tmp_path)
    (tmp_path / "annotations.xml").unlink()
    with pytest.raises(DataError, match=r"cannot read .*annotations.xml .*export the task from CVAT"):
        open_cvat(tmp_path)


def test_an_image_of_another_size_than_the_file_says_is_refused(tmp_path):
    write(tmp_path, image(size=(60, 40)))
    with pytest.raises(DataError, match=r"annotations.xml#0 was drawn on an image of 40x60, but the image is 60x40"):
        open_cvat(tmp_path).read_labels(0, SIZE)

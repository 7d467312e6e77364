"""CamVid: what is read, and every defect that is refused, with the message read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data import open_frames
from roadseg.errors import ConfigError, DataError, RoadsegError


def mask_path(root: Path, name: str = "frame_001") -> Path:
    return root / "camvid" / "trainannot" / f"{name}.png"


def edit_mask(root: Path, change) -> Path:
    path = mask_path(root)
    mask = np.array(Image.open(path))
    change(mask)
    Image.fromarray(mask).save(path)
    return path


def test_reads_frames_in_order_with_unlabelled_pixels_ignored(camvid_root):
    dataset = open_frames("camvid", "train", root=camvid_root)
    assert [dataset.name(i) for i in range(len(dataset))] == [f"frame_{i:03d}" for i in range(8)]
    image, mask, name = dataset[1]
    stored = np.asarray(Image.open(mask_path(camvid_root)))
    assert name == "frame_001" and image.shape == (64, 96, 3) and image.dtype == mask.dtype == np.uint8
    assert np.array_equal(mask == 255, stored == 11) and (stored == 11).any()
    assert np.array_equal(mask[stored != 11], stored[stored != 11])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".webp"])
def test_any_image_format_pairs_with_its_mask(camvid_root, suffix):
    for path in (camvid_root / "camvid" / "val").iterdir():
        Image.open(path).save(path.with_suffix(suffix), quality=95)
        path.unlink()
    dataset = open_frames("camvid", "val", root=camvid_root)
    assert len(dataset) == 5 and dataset[0][0].shape == (64, 96, 3)


def test_finds_the_data_under_roadseg_data_or_in_data(camvid_root, monkeypatch):
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    assert len(open_frames("camvid")) == 8
    monkeypatch.delenv("ROADSEG_DATA")
    monkeypatch.chdir(camvid_root.parent)
    assert len(open_frames("camvid")) == 8


def test_a_palette_mask_is_read_by_its_indices(camvid_root):
    expected = open_frames("camvid", root=camvid_root)[1][1]
    picture = Image.open(mask_path(camvid_root))
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    picture.save(mask_path(camvid_root))
    assert Image.open(mask_path(camvid_root)).mode == "P"
    assert np.array_equal(open_frames("camvid", root=camvid_root)[1][1], expected)


def test_missing_data_says_how_to_get_it(tmp_path):
    message = r"no folder .*camvid/train \(.* is empty\); get it with .*git clone.*ROADSEG_DATA"
    with pytest.raises(DataError, match=message):
        open_frames("camvid", root=tmp_path)


def test_the_folder_itself_given_as_root_is_explained(camvid_root):
    with pytest.raises(DataError, match=r"the data root is the folder \*above\* camvid"):
        open_frames("camvid", root=camvid_root / "camvid")


def test_unknown_split_lists_the_known():
    with pytest.raises(ConfigError, match="camvid has no split 'training'; it has train, val, test"):
        open_frames("camvid", "training")


def test_image_without_mask_is_named(camvid_root):
    mask_path(camvid_root).unlink()
    with pytest.raises(DataError, match=r"1 image\(s\) in .*train have no mask .*trainannot: frame_001.png; add"):
        open_frames("camvid", root=camvid_root)


def test_mask_without_image_is_named(camvid_root):
    (camvid_root / "camvid" / "train" / "frame_002.png").unlink()
    with pytest.raises(DataError, match=r"1 mask\(s\) in .*trainannot have no image .*: frame_002.png; add"):
        open_frames("camvid", root=camvid_root)


def test_two_images_of_one_name_are_refused(camvid_root):
    folder = camvid_root / "camvid" / "train"
    Image.open(folder / "frame_003.png").save(folder / "frame_003.jpg")
    with pytest.raises(DataError, match=r"holds frame_003.jpg and frame_003.png: remove one"):
        open_frames("camvid", root=camvid_root)


def test_an_empty_folder_is_refused(camvid_root):
    for path in (camvid_root / "camvid" / "val").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val holds no image; looked for \.jpeg, \.jpg"):
        open_frames("camvid", "val", root=camvid_root)


def test_a_value_outside_the_label_set_is_named_with_file_and_count(camvid_root):
    def plant(mask):
        mask[10, 10:17] = 12

    path = edit_mask(camvid_root, plant)
    message = rf"{path} holds 1 value outside the label set: 12 \(7 pixels\); allowed are 0 to 11"
    with pytest.raises(DataError, match=message):
        open_frames("camvid", root=camvid_root)[1]


def test_sixteen_bit_values_do_not_wrap_into_the_label_set(camvid_root):
    mask = np.full((64, 96), 256 + 3, np.uint16)
    Image.fromarray(mask).save(mask_path(camvid_root))
    with pytest.raises(DataError, match=r"outside the label set: 259 \(6144 pixels\)"):
        open_frames("camvid", root=camvid_root)[1]


def test_a_mask_of_colours_is_refused(camvid_root):
    Image.new("RGB", (96, 64), (128, 64, 128)).save(mask_path(camvid_root))
    with pytest.raises(DataError, match=r"frame_001.png is an image of colours \(RGB\), but an index mask is expected"):
        open_frames("camvid", root=camvid_root)[1]


def test_a_lossy_mask_in_a_png_name_is_refused(camvid_root):
    Image.new("L", (96, 64)).save(mask_path(camvid_root), "JPEG")
    with pytest.raises(DataError, match=r"frame_001.png is a JPEG, whose compression changes ids"):
        open_frames("camvid", root=camvid_root)[1]


@pytest.mark.parametrize("keep", [0, 20, 0.5])
def test_a_damaged_mask_is_named(camvid_root, keep):
    data = mask_path(camvid_root).read_bytes()
    mask_path(camvid_root).write_bytes(data[: int(keep if keep != 0.5 else len(data) / 2)])
    with pytest.raises(DataError, match=r"mask .*frame_001.png cannot be read"):
        open_frames("camvid", root=camvid_root)[1]


def test_a_truncated_image_is_named(camvid_root):
    path = camvid_root / "camvid" / "train" / "frame_001.png"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RoadsegError, match=r"frame_001.png is (truncated or )?damaged"):
        open_frames("camvid", root=camvid_root)[1]


def test_sizes_that_differ_are_named(camvid_root):
    Image.new("L", (90, 64)).save(mask_path(camvid_root))
    with pytest.raises(DataError, match=r"frame_001.png is 96x64 but its mask .* is 90x64 \(width x height\); export"):
        open_frames("camvid", root=camvid_root)[1]


def test_sizes_that_fit_when_turned_say_so(camvid_root):
    Image.new("L", (64, 96)).save(mask_path(camvid_root))
    with pytest.raises(DataError, match=r"they fit when one is turned by 90 degrees; export"):
        open_frames("camvid", root=camvid_root)[1]


@pytest.mark.parametrize("tag", [2, 3, 6])
def test_an_image_with_an_exif_orientation_is_refused(camvid_root, tag):
    path = camvid_root / "camvid" / "train" / "frame_001.png"
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.open(path).save(path, exif=exif)
    with pytest.raises(DataError, match=rf"{path} carries the EXIF orientation {tag}, and nothing tells"):
        open_frames("camvid", root=camvid_root)[1]


def test_a_mask_in_another_format_under_a_png_name_is_refused(camvid_root):
    """GIF stores indices of its own making: a mask of nothing but 3 comes back as 0."""
    for kind in ("GIF", "BMP", "TIFF"):
        Image.new("L", (96, 64), 3).save(mask_path(camvid_root), kind)
        with pytest.raises(DataError, match="frame_001.png cannot be read: it is not a PNG"):
            open_frames("camvid", root=camvid_root)[1]


def test_a_black_and_white_mask_is_refused(camvid_root):
    Image.new("1", (96, 64), 1).save(mask_path(camvid_root))
    with pytest.raises(DataError, match=r"is black and white \(1 bit\), but an index mask is expected"):
        open_frames("camvid", root=camvid_root)[1]


def test_an_animated_mask_is_refused(camvid_root):
    frames = [Image.new("L", (96, 64), 3), Image.new("L", (96, 64), 4)]
    frames[0].save(mask_path(camvid_root), save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="frame_001.png is an animation"):
        open_frames("camvid", root=camvid_root)[1]


def test_a_bomb_among_the_masks_is_named_by_verify(camvid_root):
    Image.new("L", (20000, 20000)).save(mask_path(camvid_root))
    with pytest.raises(DataError, match=r"mask .*frame_001.png cannot be read .*decompression bomb"):
        open_frames("camvid", root=camvid_root).verify()


def test_verify_is_silent_on_sound_data_and_names_every_broken_frame(camvid_root):
    dataset = open_frames("camvid", root=camvid_root)
    dataset.verify()
    for i in range(7):
        mask_path(camvid_root, f"frame_{i:03d}").write_bytes(b"not a PNG")
    with pytest.raises(DataError, match=r"7 of 8 frames are broken:") as caught:
        dataset.verify()
    assert "frame_000" in str(caught.value) and "and 2 more" in str(caught.value)


def test_real_camvid_has_the_published_counts(real_data):
    for split, frames in {"train": 367, "val": 101}.items():
        dataset = open_frames("camvid", split, root=real_data)
        dataset.verify()
        assert len(dataset) == frames
        image, mask, _ = dataset[0]
        assert image.shape == (360, 480, 3) and set(np.unique(mask)) <= {*range(11), 255}

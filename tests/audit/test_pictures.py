"""The contact sheet shows what the network sees; the plot is written for any report."""

import numpy as np
import pytest
import torch
from PIL import Image

from roadseg.audit import audit, write_pictures
from roadseg.audit.pictures import draw_contact_sheet, set_colours
from roadseg.errors import DataError, OutputError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy
from tests.audit.conftest import mapped_splits

TILE = (22 + 160, 320)  # caption, and a picture of 320 px by half as much


class Samples:
    """Black images, one class each; the second is broken."""

    def __init__(self, count: int, size: tuple[int, int] = (64, 128)) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:  # noqa: D105
        return self.count

    def __getitem__(self, index: int) -> dict[str, object]:  # noqa: D105
        if index == 1:
            raise DataError("broken")
        mask = torch.full(self.size, index % 3, dtype=torch.int64)
        mask[:, : self.size[1] // 2] = 255
        return {"image": torch.full((3, *self.size), 40, dtype=torch.uint8), "mask": mask, "name": f"n{index}"}


def label_sets() -> LabelSets:
    return LabelSets.collect(load_taxonomy("camvid11"), [(1, 2)])


def test_samples_are_half_covered_by_their_classes_and_ignored_pixels_stay():
    sheet = draw_contact_sheet(Samples(3), label_sets())
    palette = load_taxonomy("camvid11").palette.astype(int)
    tiles = [sheet[22 : TILE[0], i * 320 : (i + 1) * 320] for i in range(3)]
    for index in (0, 2):
        assert (tiles[index][:, :155] == 40).all()
        assert np.abs(tiles[index][:, 165:].astype(int) - (palette[index] + 40) / 2).max() <= 1
    assert (tiles[1][:160] == np.array([128, 128, 128])).all()  # the broken one


def test_the_sheet_is_spread_over_all_samples_and_bounded():
    asked = []

    class Asked(Samples):
        def __getitem__(self, index: int) -> dict[str, object]:
            asked.append(index)
            return super().__getitem__(index)

    sheet = draw_contact_sheet(Asked(1000), label_sets())
    assert len(asked) == 24 and asked[0] == 0 and asked[-1] == 999 and sorted(set(asked)) == asked
    legend = 22 * len({index % 3 for index in asked})
    assert sheet.shape == (4 * TILE[0] + legend, 6 * 320, 3)


def test_merged_sets_have_the_mean_colour():
    sets = label_sets()
    palette = sets.taxonomy.palette.astype(float)
    assert set_colours(sets)[11].tolist() == ((palette[1] + palette[2]) / 2).round().tolist()
    assert set_colours(sets)[:11].tolist() == sets.taxonomy.palette[:11].tolist()


def test_both_pictures_are_written(clean_root, tmp_path):
    splits = mapped_splits(clean_root)
    report = audit(splits, workers=1, progress=False)
    written = write_pictures(report, splits, Samples(5), tmp_path / "new" / "pictures")
    assert [path.name for path in written] == ["audit_samples.png", "audit_classes.png"]
    for path in written:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        assert pixels.shape[1] > 600 and pixels.std() > 10


def test_without_samples_the_plot_is_written_alone(clean_root, tmp_path):
    splits = mapped_splits(clean_root)
    written = write_pictures(audit(splits, workers=1, progress=False), splits, None, tmp_path)
    assert [path.name for path in written] == ["audit_classes.png"]
    assert write_pictures(audit({}, workers=1, progress=False), {}, None, tmp_path) == []


def test_a_folder_that_is_a_file_is_refused(clean_root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to .*file"):
        write_pictures(audit({}, workers=1, progress=False), {}, None, tmp_path / "file")

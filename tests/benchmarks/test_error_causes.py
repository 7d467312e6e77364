"""Causes of wrong pixels, on masks whose errors were planted."""

import json

import numpy as np
import pytest

from benchmarks.error_causes import BANDS, Causes, displaced_pixels, main, thin_pixels
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy("hdmap-camvid")
NAMES = [c.name for c in TAXONOMY.classes]
ROAD, LANE, SKY, POLE, BUILDING = map(NAMES.index, ("road", "lane_marking", "sky", "pole", "building"))
MERGED = LabelSets.collect(TAXONOMY, [(ROAD, LANE)])


def street() -> np.ndarray:
    """Sky above a road of 360 rows, with a pole of 4 px and a building."""
    truth = np.full((360, 480), SKY, np.uint8)
    truth[180:] = len(TAXONOMY)  # {road, lane_marking}
    truth[60:180, 100:104] = POLE
    truth[60:180, 300:400] = BUILDING
    return truth


def perfect(truth: np.ndarray) -> np.ndarray:
    return np.where(truth == len(TAXONOMY), ROAD, truth).astype(np.uint8)


def test_what_is_narrow_is_thin_and_what_lies_near_its_class_is_displaced():
    ids = street()
    thin = thin_pixels(ids, 7)
    assert thin[70:170, 100:104].all() and not thin[70:170, 310:390].any() and not thin[:50].any()
    ids[60:180, 390:400] = 255  # what nobody labelled does not make the rest of the building narrow, nor an edge
    ids[60:180, 302:390] = 255
    assert not thin_pixels(ids, 7)[70:170, 300:302].any()
    mask = perfect(street())
    mask[176:180, 200:220] = ROAD  # the road begins 4 px too high
    mask[182:184, 200:220] = LANE  # the label allows it
    mask[100, 296:300] = BUILDING
    mask[100, 302:304] = SKY
    found = displaced_pixels(mask, ids, MERGED, 2)
    assert found[178:180, 200:220].all() and not found[176:178, 200:220].any() and found[182:184, 200:220].all()
    assert found[100, 298:300].all() and not found[100, 296:298].any()
    assert not found[100, 303] and not found[100, 310:380].any()


def test_a_thing_taken_for_something_else_has_no_edge_errors():
    truth, causes = street(), Causes(MERGED)
    mask = perfect(truth)
    mask[truth == BUILDING] = NAMES.index("vehicle")
    causes.add(mask, truth)
    assert causes.report()["causes"]["building as vehicle"]["share"] == 1.0


def test_each_planted_error_has_its_cause_and_its_place():
    truth, causes = street(), Causes(MERGED)
    mask = perfect(truth)
    mask[60:180, 100:104] = SKY  # the pole is missed: 480 px
    mask[60:180, 298:300] = BUILDING  # the building is 2 px too wide: 240 px
    mask[300:340, 200:300] = BUILDING  # a part of the road is taken for one: 4,000 px
    causes.add(mask, truth)
    report = causes.report()
    counted = {cause: round(line["share"] * 4720) for cause, line in report["causes"].items()}
    assert counted == {"thin": 480, "edge": 240, "all larger things": 4000, "road+lane_marking as building": 4000}
    bands = [round(line["share"] * 4720) for line in report["by_band_from_the_top"]]
    assert len(bands) == BANDS and bands == [0, 360, 360, 0, 0, 4000]


def test_gains_are_what_mean_iou_rises_by():
    truth, causes = street(), Causes(MERGED)
    mask = perfect(truth)
    mask[60:180, 100:104] = SKY
    mask[300:340, 200:300] = BUILDING
    causes.add(mask, truth)
    report = causes.report()
    sky, road, building = (truth == SKY).sum(), (truth == len(TAXONOMY)).sum(), 12000
    before = np.array([sky / (sky + 480), (road - 4000) / road, 0.0, building / (building + 4000)])
    without_thin = np.array([1.0, (road - 4000) / road, 1.0, building / (building + 4000)])
    assert report["miou"] == pytest.approx(before.mean())
    assert report["causes"]["thin"]["gain"] == pytest.approx(without_thin.mean() - before.mean())
    assert report["causes"]["edge"]["gain"] == 0
    assert report["by_class"]["pole"] == pytest.approx({"thin": 1.0, "edge": 0.0, "body": 0.0})
    assert sum(line["share"] for line in report["by_band_from_the_top"]) == pytest.approx(1)


def test_a_merged_label_is_right_in_either_class_and_no_label_is_no_error():
    truth, causes = street(), Causes(MERGED)
    mask = perfect(truth)
    mask[200:, :240] = LANE
    truth[:50] = 255
    mask[:50] = ROAD
    mask[170, 310] = SKY  # one error, so that shares are defined
    causes.add(mask, truth)
    assert causes.all.sum() == truth.size - 50 * 480
    assert causes.report()["causes"]["thin"]["share"] == 1.0


def test_the_command_scores_a_model_file_on_held_out_frames(camvid_root, model_file, tmp_path, monkeypatch, capsys):
    config, output = tmp_path / "data.yaml", tmp_path / "causes.json"
    config.write_text("data: {dataset: camvid}\n")
    monkeypatch.setenv("ROADSEG_DATA", str(camvid_root))
    monkeypatch.setattr("sys.argv", ["causes", str(model_file), "-c", str(config), "-o", str(output)])
    main()
    report = json.loads(output.read_text())
    assert report["frames"] > 0 and 0 <= report["miou"] < 1 and set(report["causes"]) >= {"thin", "edge"}
    assert "all larger things" in capsys.readouterr().out

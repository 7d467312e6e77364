"""The report: JSON that another program can rely on, text for people."""

import json

import numpy as np
import pytest
from PIL import Image

import roadseg
from roadseg.audit import CHECKS, audit
from roadseg.errors import DataError, OutputError
from tests.audit.conftest import mapped_splits
from tests.audit.planted import TRAIN, VAL, colours, drive_in_train_and_val, label_out_of_the_table


def test_json_holds_everything_under_stable_names(tree, audit_root, tmp_path):
    label_out_of_the_table(tree)
    drive_in_train_and_val(tree)
    audit_root(tree.root, waive=["leak-drive:0002B", "class-rare"]).write_json(tmp_path / "report.json")
    document = json.loads((tmp_path / "report.json").read_text())
    assert list(document) == [
        "version", "roadseg", "exit_code", "errors", "warnings", "findings", "waived", "unused_waivers", "datasets",
        "classes",
    ]  # fmt: skip
    assert (document["version"], document["roadseg"]) == (1, roadseg.__version__)
    assert (document["exit_code"], document["errors"], document["warnings"]) == (1, 1, 0)
    assert document["findings"] == [
        {
            "check": "unknown-label",
            "severity": "error",
            "what": CHECKS["unknown-label"].what,
            "fix": CHECKS["unknown-label"].fix,
            "dataset": "camvid",
            "split": "train",
            "waiver": None,
            "count": 1,
            "examples": [
                {"subject": "0001A_0003", "file": str(tree.mask()), "detail": "37 (100 px) not in camvid"},
            ],
        }
    ]
    assert [(f["check"], f["waiver"]) for f in document["waived"]] == [("leak-drive", "leak-drive:0002B")]
    assert document["unused_waivers"] == ["class-rare"]
    assert document["datasets"][0] == {
        "dataset": "camvid", "split": "train", "frames": 12, "sizes": [{"height": 64, "width": 96, "frames": 12}],
    }  # fmt: skip


def test_pixel_shares_are_those_of_the_masks(clean_root, audit_root):
    report = audit_root(clean_root)
    masks = np.stack([np.array(Image.open(clean_root / "trainannot" / f"{name}.png")) for name in TRAIN])
    classes = report.to_dict()["classes"]["train"]
    assert classes["ignored"] == (masks == 11).sum() and classes["labelled"] == (masks != 11).sum()
    assert [entry["pixels"] for entry in classes["sets"]] == np.bincount(masks.ravel(), minlength=12)[:11].tolist()
    assert [entry["set"] for entry in classes["sets"]][:2] == [["sky"], ["building"]]
    assert sum(entry["share"] for entry in classes["sets"]) == pytest.approx(1)
    assert report.shares("train")["road"] == pytest.approx((masks == 3).sum() / (masks != 11).sum())


def test_merged_sets_stand_apart_and_teach_their_classes(clean_root):
    """In hdmap, CamVid's road may be lane marking: a set of its own, and lane_marking is not missing."""
    report = audit(mapped_splits(clean_root, "hdmap-camvid"), workers=1, progress=False)
    masks = np.stack([np.array(Image.open(clean_root / "valannot" / f"{name}.png")) for name in VAL])
    sets = {tuple(entry["set"]): entry["pixels"] for entry in report.to_dict()["classes"]["val"]["sets"]}
    (road,) = [members for members in sets if {"road", "lane_marking"} <= set(members)]
    assert sets[road] == (masks == 3).sum() and sets[("road",)] == 0 and sets[("sky",)] == (masks == 0).sum()
    missing = {o.subject for f in report.findings if f.check.name == "class-missing" for o in f.examples}
    assert "lane_marking" not in missing and "road" not in missing


def test_text_names_files_counts_and_fixes(tree, audit_root):
    label_out_of_the_table(tree)
    lines = audit_root(tree.root).text().splitlines()
    assert lines[0] == "camvid train: 12 frames, 96x64"
    assert lines[3].startswith("error    unknown-label     camvid train              1  the mask holds labels")
    assert lines[4] == f"    {tree.mask()}: 37 (100 px) not in camvid"
    assert lines[5].startswith("    fix: correct the mask")
    assert lines[-1] == "1 error, 0 warnings, 0 waived"


def test_a_dataset_that_cannot_be_opened_is_a_finding():
    report = audit({}, problems=[("vistas", DataError("no folder /data/vistas"))], workers=1, progress=False)
    (finding,) = report.findings
    assert (finding.check.name, finding.dataset, report.exit_code) == ("unopened", "vistas", 1)
    assert "no folder /data/vistas" in report.text()


def test_a_report_that_cannot_be_written_says_where(clean_root, audit_root, tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*missing/report.json: No such file"):
        audit_root(clean_root).write_json(tmp_path / "missing" / "report.json")


def test_a_palette_of_the_tables_own_order_is_fine(tree, audit_root):
    image = Image.open(tree.mask())
    image.load()
    image.putpalette(colours().tobytes())
    image.save(tree.mask())
    assert Image.open(tree.mask()).mode == "P" and audit_root(tree.root).findings == []


def test_the_palette_of_pascal_voc_is_fine(tree, audit_root):
    """Labelling tools write it into every mask; some of its colours are labels of CamVid, too."""
    palette = [[sum((i >> (3 * b + c) & 1) << (7 - b) for b in range(3)) for c in range(3)] for i in range(256)]
    image = Image.open(tree.mask())
    image.load()
    image.putpalette([v for colour in palette for v in colour])
    image.save(tree.mask())
    assert audit_root(tree.root).findings == []

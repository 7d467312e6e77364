"""Findings that are accepted by name."""

import pytest

from roadseg.audit.findings import KEPT, FindingStore, Occurrence
from roadseg.audit.waivers import Waivers
from roadseg.errors import ConfigError
from tests.audit.planted import TRAIN, VAL, drive_in_train_and_val, mask_all_road, mask_of_0_and_255


@pytest.mark.parametrize(
    "waiver",
    ["leak-drive", "leak-drive:0002B", "leak-drive:000*", "leak-drive:camvid", "leak-drive:val", "leak-drive:0002[AB]"],
)
def test_a_waived_error_is_shown_and_not_counted(waiver, tree, audit_root):
    drive_in_train_and_val(tree)
    report = audit_root(tree.root, waive=[waiver])
    assert report.findings == [] and report.exit_code == 0 and report.errors == 0 and report.unused_waivers == []
    (waived,) = report.waived
    assert (waived.check.name, waived.waiver, waived.examples[0].subject) == ("leak-drive", waiver, "0002B")
    assert f"waived   leak-drive        camvid val                1  by '{waiver}'" in report.text()


@pytest.mark.parametrize("waiver", ["leak-drive:0001A", "leak-drive:train", "leak-frame", "leak-drive:0002b"])
def test_a_waiver_that_matches_nothing_is_reported_and_the_error_stays(waiver, tree, audit_root):
    drive_in_train_and_val(tree)
    report = audit_root(tree.root, waive=[waiver])
    assert report.exit_code == 1 and report.unused_waivers == [waiver] and report.waived == []
    assert f"the waiver '{waiver}' matched nothing" in report.text()


def test_only_the_file_that_is_named_is_waived(tree, audit_root):
    mask_of_0_and_255(tree)
    mask_of_0_and_255(tree, TRAIN[7])
    report = audit_root(tree.root, waive=[f"binary-mask:*/{TRAIN[7]}.png"])
    assert [o.file for f in report.findings for o in f.examples] == [str(tree.mask())]
    assert [o.file for f in report.waived for o in f.examples] == [str(tree.mask(TRAIN[7]))]
    assert report.exit_code == 1


def test_a_waived_frame_does_not_hide_another_check(tree, audit_root):
    mask_all_road(tree)
    mask_of_0_and_255(tree, VAL[0])
    report = audit_root(tree.root, waive=["mask-constant"])
    assert [f.check.name for f in report.findings] == ["binary-mask"]


def test_an_unknown_check_is_refused_with_those_there_are():
    with pytest.raises(
        ConfigError, match=r"waiver 'leak_drive:0016E5': there is no check 'leak_drive'; there are .*leak-drive"
    ):
        Waivers(["leak_drive:0016E5"])


def test_findings_keep_the_first_names_and_count_all():
    store = FindingStore(Waivers())
    for i in range(1000):
        store.add(Occurrence("unknown-label", "camvid", "train", f"frame-{i}", f"{i}.png"))
    store.add(Occurrence("unknown-label", "camvid", "val", "other"), times=5)
    train, val = store.sorted()
    assert (train.count, len(train.examples), val.count, len(val.examples)) == (1000, KEPT, 5, 1)
    assert [o.file for o in train.examples] == [f"{i}.png" for i in range(KEPT)]
    assert store.count({"unknown-label", "leak-drive"}, "camvid", "train") == 1000
    store.drop("unknown-label", "camvid")
    assert store.sorted() == []

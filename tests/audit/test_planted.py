"""The audit names every planted defect, and nothing else; it is silent on what is clean."""

import pytest

from roadseg.audit import AuditReport, audit_tree
from tests.audit.planted import PLANTERS, TRAIN, VAL

# One message for many: they name the first file only.
NAMES_FIRST = {
    "all_masks_too_high_by_one",
    "all_masks_too_high_by_one_within_the_table",
    "all_masks_too_low_by_one",
}


def spoken(report: AuditReport) -> dict[str, set[str]]:
    """Check -> what it names: files, or subjects where there are none."""
    found: dict[str, set[str]] = {}
    for finding in report.findings:
        found.setdefault(finding.check.name, set()).update(o.file or o.subject for o in finding.examples)
    return found


def test_at_least_twenty_defects_are_planted():
    assert len({planter.__name__ for planter in PLANTERS}) == len(PLANTERS) >= 20


def test_silent_on_the_clean_tree(clean_root, audit_root):
    report = audit_root(clean_root)
    assert spoken(report) == {} and report.exit_code == 0
    assert [(p.split, p.frames) for p in report.parts] == [("train", 12), ("val", 6)]


def test_silent_on_the_clean_tree_of_a_bare_path(clean_root):
    assert spoken(audit_tree(clean_root, workers=1, progress=False)) == {}


@pytest.mark.parametrize("plant", PLANTERS, ids=lambda p: p.__name__)
def test_names_the_planted_defect_and_nothing_else(plant, tree, audit_root):
    expected = plant(tree)
    found = spoken(audit_root(tree.root))
    assert list(found) == [expected.check]
    if expected.check == "unpaired":  # the dataset cannot be opened: its message names the file
        assert found == {"unpaired": {"camvid"}}
    elif plant.__name__ in NAMES_FIRST:
        assert found[expected.check] <= expected.named
    else:
        assert found[expected.check] == expected.named


@pytest.mark.parametrize("plant", PLANTERS, ids=lambda p: p.__name__)
def test_names_the_planted_defect_below_a_bare_path(plant, tree):
    expected = plant(tree)
    found = spoken(audit_tree(tree.root, workers=1, progress=False))
    assert list(found) == [expected.check]
    if plant.__name__ in NAMES_FIRST:
        assert found[expected.check] <= expected.named
    else:
        assert found[expected.check] == expected.named


@pytest.mark.parametrize("plant", PLANTERS, ids=lambda p: p.__name__)
def test_the_exit_status_is_1_for_errors_alone(plant, tree, audit_root):
    plant(tree)
    report = audit_root(tree.root)
    severities = {finding.check.severity for finding in report.findings}
    assert report.exit_code == (1 if "error" in severities else 0)


def test_a_dataset_that_is_shifted_as_a_whole_is_counted_whole(tree, audit_root):
    tree.change_masks(lambda m: m + 1, TRAIN + VAL)
    report = audit_root(tree.root)
    assert [(f.check.name, f.split, f.count) for f in report.findings] == [
        ("off-by-one", "train", 12),
        ("off-by-one", "val", 6),
    ]
    assert report.findings[0].examples[0].detail == "all 18 masks of camvid together: ids 1 to 12, too high by one"


def test_a_file_that_cannot_be_opened_for_pairing_is_named_in_the_message(tree, audit_root):
    tree.mask().unlink()
    (finding,) = audit_root(tree.root).findings
    assert tree.image().name in finding.examples[0].detail

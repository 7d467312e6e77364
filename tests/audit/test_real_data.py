"""What the audit says of real CamVid; the numbers are those of the public folders."""

import numpy as np

from roadseg.audit import audit_tree
from roadseg.audit.fingerprints import find_alike
from roadseg.audit.image_files import inspect_image


def test_camvids_usual_val_is_a_drive_of_train_and_nothing_else_is_wrong(real_data):
    report = audit_tree(real_data / "camvid", progress=False)
    (finding,) = report.findings
    assert (finding.check.name, finding.split, finding.count) == ("leak-drive", "val", 1)
    assert (finding.examples[0].subject, finding.examples[0].detail) == ("0016E5", "204 frames in train, 101 in val")
    assert audit_tree(real_data / "camvid", waive=["leak-drive:0016E5"], progress=False).exit_code == 0


def test_camvid32_holds_16_frames_of_camvids_val(real_data):
    """The same pictures at twice the size: used together without care, training sees what it is scored on."""
    camvid, camvid32 = (
        np.stack([inspect_image(path).thumb for path in sorted((real_data / folder).iterdir())])
        for folder in ("camvid/val", "camvid32/images")
    )
    names = [[path.stem for path in sorted((real_data / f).iterdir())] for f in ("camvid/val", "camvid32/images")]
    rows, originals, _ = find_alike(camvid32, camvid)
    alike = {names[0][i] for i in rows}
    assert len(set(names[0]) & set(names[1])) == 16 and set(names[0]) & set(names[1]) <= alike
    number = {name: int(name.partition("_")[2].lstrip("f")) for name in (*names[0], *names[1])}
    for row, original in zip(rows, originals, strict=True):  # whatever else is alike was filmed in the same second
        assert abs(number[names[0][row]] - number[names[1][original]]) <= 30


def test_frames_a_moment_apart_are_alike_and_frames_of_other_drives_are_not(real_data):
    """Val is filmed at 15 frames a second: split between two splits, its neighbours would leak."""
    val = np.stack([inspect_image(p).thumb for p in sorted((real_data / "camvid" / "val").iterdir())])
    train = np.stack([inspect_image(p).thumb for p in sorted((real_data / "camvid" / "train").glob("000*"))])
    assert len(find_alike(val[::2], val[1::2])[0]) >= 45
    assert len(find_alike(train, val)[0]) == 0

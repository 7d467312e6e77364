"""What becomes of files of earlier runs, when frames are done anew or fail."""

import shutil

import pytest

import roadseg.walking
from roadseg.errors import DataError, OutputError
from roadseg.inference.segmenting.manifest import ManifestWriter
from roadseg.inference.segmenting.products import MASK_ALONE, Products
from roadseg.inference.segmenting.shards import Shard
from tests.inference.segmenting.conftest import photo
from tests.inference.segmenting.test_resuming import make_run, masks, segmented

BESIDE = Products(overlay=True, confidence=True)


def there(folder):
    return sorted(masks(folder))


def test_overwriting_leaves_nothing_of_the_run_before(drive, tmp_path, predictor):
    out = tmp_path / "out"
    photo(drive / "late" / "c.png", 3)
    segmented(predictor, [drive], out, products=BESIDE)
    (out / "notes.txt").write_text("by hand")
    shutil.rmtree(drive / "late")
    (drive / "a.png").write_bytes(b"broken by now")
    summary, _ = segmented(predictor, [drive], out, overwrite=True)
    assert (summary.written, summary.failed) == (2, 1)
    assert there(out) == ["night/a.png", "night/b.png", "notes.txt"]


def test_overwriting_removes_no_mask_that_it_does_not_make_again(drive, tmp_path, predictor):
    out = tmp_path / "out"
    segmented(predictor, [drive], out)
    before = masks(out)
    with pytest.raises(OutputError, match=r"remove .*out/night/a.png, which is of night/a.jpg in .*drive and"):
        segmented(predictor, [drive / "night"], out, overwrite=True)
    assert masks(out) == before
    photo(tmp_path / "more" / "d.png", 4)
    assert segmented(predictor, [drive, tmp_path / "more"], out, overwrite=True)[0].written == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roadseg.walking._listed", unlistable("night"))  # for a moment, as a share that is not mounted
        with pytest.raises(OutputError, match="would remove"):
            segmented(predictor, [drive, tmp_path / "more"], out, overwrite=True)


def unlistable(ending):
    listed = roadseg.walking._listed

    def refusing(folder, suffixes):
        if str(folder).endswith(ending):
            raise DataError(f"cannot list {folder}")
        return listed(folder, suffixes)

    return refusing


def test_overwriting_a_shard_leaves_the_others(tmp_path, predictor):
    for i in range(12):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    for n in (1, 2):
        segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(n, 2), products=BESIDE)
    assert len(there(tmp_path / "out")) == 36
    again = segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(1, 2), overwrite=True)[1]
    assert len(there(tmp_path / "out")) == 36 - 2 * len(again)


def test_manifests_that_are_being_written_are_not_taken_away(tmp_path, predictor):
    for i in range(6):
        photo(tmp_path / "drive" / f"{i:02d}.png", i)
    runs = [make_run(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(n, 2)) for n in (1, 2)]
    runs[0].segment(lambda outcome: None)
    before = masks(tmp_path / "out")
    writer = ManifestWriter(runs[1].manifest)
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="another run is writing .*manifest-2-of-2.jsonl; wait for it"):
            segmented(predictor, [tmp_path / "drive"], tmp_path / "out", **how)
    assert masks(tmp_path / "out") == before and runs[0].manifest.exists()
    segmented(predictor, [tmp_path / "drive"], tmp_path / "out", shard=Shard(1, 2), resume=True)  # goes beside it
    writer.close()
    assert len(segmented(predictor, [tmp_path / "drive"], tmp_path / "out", overwrite=True)[1]) == 6
    assert not runs[0].manifest.exists()


def test_a_frame_that_is_broken_by_now_leaves_no_file_of_its_former_self(drive, tmp_path, predictor):
    segmented(predictor, [drive], tmp_path / "out", products=BESIDE)
    (drive / "a.png").write_bytes(b"broken by now")
    for products in (BESIDE, MASK_ALONE):
        assert segmented(predictor, [drive], tmp_path / "out", resume=True, products=products)[0].failed == 1
        assert not [name for name in there(tmp_path / "out") if name.startswith("a")]
        assert len(there(tmp_path / "out")) == 6


def test_a_frame_that_is_done_again_leaves_no_older_overlay_but_takes_no_other_mask(tmp_path, predictor):
    drive, out = tmp_path / "drive", tmp_path / "out"
    for seed, name in enumerate("ab"):
        photo(drive / f"{name}.jpg", seed)
    segmented(predictor, [drive], out, products=BESIDE)
    photo(drive / "a_overlay.jpg", 3)  # its mask bears the name of the overlay, which nobody wants any longer
    assert segmented(predictor, [drive], out, resume=True)[1] == ["a_overlay.jpg"]
    for seed, name in enumerate("ab"):
        photo(drive / f"{name}.jpg", 10 + seed)
    assert segmented(predictor, [drive], out, resume=True)[1] == ["a.jpg", "b.jpg"]
    assert there(out) == ["a.png", "a_overlay.png", "b.png"]
    assert masks(out)["a_overlay.png"] == predictor(drive / "a_overlay.jpg").png()

"""Pseudo-labels against the predictor's own masks, numpy's order statistics, and the dataset that reads them."""

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import roadseg
from roadseg.cli import lightning_main, main
from roadseg.data import open_frames
from roadseg.data.class_table import load_class_table
from roadseg.errors import ConfigError, DataError, OutputError
from roadseg.inference.package import Architecture, ModelHeader, write_model_file
from roadseg.pseudo_labels.folder import Tally
from roadseg.pseudo_labels.images import UnlabelledImages, draw_sample
from roadseg.pseudo_labels.labelling import PseudoLabelOptions, pseudo_label
from roadseg.pseudo_labels.thresholds import EDGES, ConfidenceHistogram, keep_sure
from roadseg.task import SegmentationTask
from tests.data.mixtures import write_coarse, write_fine


def write_photo(path: Path, seed: int, size=(40, 56), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(path, **options)
    return path


@pytest.fixture
def drives(tmp_path):
    """Two drives with frames of the same names, and a third one level below."""
    for seed, name in enumerate(("a/0001", "a/0002", "b/0001", "b/0002", "c/front/0001")):
        write_photo(tmp_path / "drives" / f"{name}.png", seed)
    return tmp_path / "drives"


@pytest.fixture(scope="module")
def predictor(model_file):
    return roadseg.load_predictor(model_file, device="cpu")


NAMES = ["a/0001", "a/0002", "b/0001", "b/0002", "c/front/0001"]


def least_kept(confidence: np.ndarray, keep_share: float) -> np.float32:
    """The confidence of the last pixel that is kept, if the share is kept exactly; rounded down to a bin's edge."""
    wanted = max(1, int(np.ceil(round(keep_share * confidence.size, 6))))
    last = np.sort(confidence)[::-1][wanted - 1]
    return EDGES[EDGES <= last].max()


def predictions(predictor, drives):
    return {name: predictor(drives / f"{name}.png", confidence=True) for name in NAMES}


@pytest.mark.parametrize(
    ("keep_share", "max_threshold", "min_confidence"),
    [(0.5, 1.0, 0.0), (0.3, 1.0, 0.35), (1.0, 1.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.9, 0.9)],
)
def test_masks_are_the_predictors_where_it_is_surest_of_each_class(
    predictor, drives, tmp_path, keep_share, max_threshold, min_confidence
):
    options = PseudoLabelOptions(keep_share, max_threshold, min_confidence)
    report = pseudo_label(predictor, UnlabelledImages([drives]), tmp_path / "out", options)
    results = predictions(predictor, drives)
    masks = np.concatenate([r.mask.ravel() for r in results.values()])
    confidences = np.concatenate([r.confidence.ravel() for r in results.values()])
    assert len(np.unique(masks)) > 3, "few classes would prove little"
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    least, capped = np.full(256, np.inf, np.float32), []
    for c, name in enumerate(predictor.taxonomy.names):
        own = confidences[masks == c]
        share = least_kept(own, keep_share) if own.size else np.float32(1)
        capped.append(share > max_threshold)
        least[c] = max(np.float32(min_confidence), min(np.float32(max_threshold), share))
        shown = written["classes"][name]
        kept = own[own >= least[c]]
        assert shown["threshold"] == pytest.approx(float(least[c]), abs=1e-7)
        assert shown["predicted_pixels"] == own.size and shown["kept_pixels"] == kept.size
        if kept.size:
            assert shown["mean_confidence"] == pytest.approx(float(kept.astype(np.float64).mean()), rel=1e-9)
        else:
            assert shown["mean_confidence"] is None
        if (max_threshold, min_confidence) == (1, 0) and own.size:  # as CBST has it, up to the width of a bin
            exact = np.quantile(own, 1 - keep_share, method="higher")
            assert kept.size >= keep_share * own.size and exact - 0.005 <= least[c] <= exact
    if max_threshold == 0.5:
        assert any(capped) and not all(capped), (
            f"{least[:11]}: what is surer than the cap is kept, the rest by its share"
        )
    for name, result in results.items():
        expected = np.where(result.confidence >= least[result.mask], result.mask, 255)
        opened = Image.open(tmp_path / "out" / "masks" / f"{name}.png")
        assert opened.mode == "P" and np.array_equal(np.asarray(opened), expected)
    assert report.labelled == 5 and report.failed == 0 and written["images"]["sampled_for_thresholds"] == 5
    assert written["settings"]["model_digest"] == predictor.digest


def test_thresholds_follow_order_statistics_of_crowded_confidences():
    rng = np.random.default_rng(0)
    confidence = (1 - rng.random((200, 300)) ** 12 * 0.6).astype(np.float32)  # many at 1 - 1e-6, as roads have
    mask = rng.integers(0, 3, (200, 300)).astype(np.uint8)
    mask[:10] = 255
    histogram = ConfidenceHistogram(5)
    for rows in (slice(0, 90), slice(90, 200)):
        histogram.add(mask[rows], confidence[rows])
    for share in (1e-4, 0.1, 0.5, 0.9, 1.0):
        found = histogram.thresholds(share)
        for c in range(3):
            own = confidence[mask == c]
            assert found[c] == least_kept(own, share)
            exact = np.sort(own)[::-1][int(np.ceil(share * own.size)) - 1]
            assert 0 <= (1 - found[c]) - (1 - exact) <= 0.004 * (1 - found[c]) + 1e-7
        assert (histogram.thresholds(share, 0.9)[3:] == np.float32(0.9)).all(), "never seen: only what is sure"
        assert (histogram.thresholds(share, 0.9) == np.minimum(found, np.float32(0.9))).all()
        assert (histogram.thresholds(share, 0.9, 0.8) == np.clip(found, np.float32(0.8), np.float32(0.9))).all()
    assert histogram.counts.sum() == (mask != 255).sum()
    assert (np.diff(EDGES) > 0).all() and EDGES[0] == 0 and EDGES[-1] == 1


def test_a_pixel_at_the_threshold_is_kept_and_ignored_ones_stay_ignored():
    mask = np.array([[0, 0, 1, 255]], np.uint8)
    confidence = np.array([[0.9, np.nextafter(np.float32(0.9), 0), 0.4, 1.0]], np.float32)
    assert keep_sure(mask, confidence, np.float32([0.9, 0.4])).tolist() == [[0, 255, 1, 255]]


def test_the_folder_dataset_reads_them_with_drives(predictor, drives, tmp_path):
    out = tmp_path / "folder"
    pseudo_label(predictor, UnlabelledImages([drives]), out, PseudoLabelOptions(0.5))
    frames = open_frames("folder", root=tmp_path, taxonomy="camvid11")
    assert [frames.name(i) for i in range(len(frames))] == NAMES
    assert [frame.drive for frame in frames.source.frames] == ["a", "a", "b", "b", "c/front"]
    assert len(frames.label_sets.merged) == 0
    for i, name in enumerate(NAMES):
        image, mask, _ = frames[i]
        assert np.array_equal(image, np.asarray(Image.open(drives / f"{name}.png")))
        assert np.array_equal(mask, np.asarray(Image.open(out / "masks" / f"{name}.png"))) and (mask == 255).any()
    table = load_class_table(out / "classes.yaml")
    assert table.source == f"model sha256:{predictor.digest}" and table.licence == "unspecified"


def test_names_do_not_depend_on_how_a_drive_is_given(drives):
    whole = [image.name for image in UnlabelledImages([drives])]
    assert whole == NAMES
    assert [i.name for i in UnlabelledImages([drives / "a", drives / "b" / "0002.png"])] == [*NAMES[:2], "b/0002"]
    assert [i.name for i in UnlabelledImages([drives / "a", f"{drives}/a/"])] == NAMES[:2]


def test_sources_whose_images_would_share_a_name_are_refused(drives, tmp_path):
    shutil.copytree(drives / "a", tmp_path / "more" / "a")
    with pytest.raises(ConfigError, match=r"drives/a and .*more/a would both be written to the folder 'a'"):
        UnlabelledImages([drives, tmp_path / "more"])
    with pytest.raises(ConfigError, match="name a folder once"):
        UnlabelledImages([drives, drives / "a"])
    write_photo(drives / "a" / "0001.jpg", 7)
    with pytest.raises(DataError, match=r"a/0001.jpg and a/0001.png: remove one"):
        list(UnlabelledImages([drives]))


def test_folders_called_like_splits_among_others_are_refused(drives):
    write_photo(drives / "train" / "x" / "0001.png", 0)
    with pytest.raises(ConfigError, match=r"drives/train is called like a split and .*drives/a is not"):
        UnlabelledImages([drives])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: [d / "gone"], "gone does not exist"),
        (lambda d: [(d / "notes.txt").write_text("x") and d / "notes.txt"], "notes.txt is not called like an image"),
    ],
)
def test_what_is_no_image_is_refused(drives, make, message):
    with pytest.raises(DataError, match=message):
        UnlabelledImages(make(drives))


def test_an_empty_folder_and_an_output_among_the_images_are_refused(predictor, drives, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="there is no image to label"):
        pseudo_label(predictor, UnlabelledImages([tmp_path / "none"]), tmp_path / "out", PseudoLabelOptions())
    with pytest.raises(ConfigError, match="which is searched for images"):
        pseudo_label(predictor, UnlabelledImages([drives]), drives / "out", PseudoLabelOptions())
    assert not (tmp_path / "out").exists() and not (drives / "out").exists()


def test_the_sample_is_drawn_evenly_by_its_seed(tmp_path):
    class Many:
        def __iter__(self):
            return (roadseg.pseudo_labels.images.UnlabelledImage(str(i), Path(str(i))) for i in range(20))

    drawn = [draw_sample(Many(), 5, seed)[0] for seed in range(400)]
    counts = np.bincount([int(image.name) for sample in drawn for image in sample], minlength=20)
    # 400 draws of 5 in 20: 100 each, with a standard deviation of sqrt(400 * 1/4 * 3/4) = 8.7.
    assert np.abs(counts - 100).max() < 4 * 8.7
    assert draw_sample(Many(), 5, 3) == draw_sample(Many(), 5, 3) and len(set(drawn[0])) == 5
    assert [image.name for image in draw_sample(Many(), 99, 0)[0]] == [str(i) for i in range(20)]
    assert draw_sample(Many(), 5, 0)[1] == 20


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def label(model_file, drives, out, *arguments) -> int:
    options = ["--min-confidence", "0.2", "--device", "cpu", *map(str, arguments)]
    return main(["data", "pseudo-label", str(drives), "--model", str(model_file), "-o", str(out), *options])


def test_an_interrupted_run_leaves_whole_files_and_ends_like_an_undisturbed_one(
    model_file, drives, tmp_path, monkeypatch, capsys
):
    assert label(model_file, drives, tmp_path / "whole") == 0
    replace = Path.replace

    def interrupted(path, target):
        if target.name == "0001.png" and target.parent.name == "b":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        assert label(model_file, drives, tmp_path / "cut") == 130
    out = tmp_path / "cut"
    masks = sorted(str(p.relative_to(out / "masks")) for p in (out / "masks").rglob("*.png"))
    assert masks == ["a/0001.png", "a/0002.png"] and not (out / "report.json").exists()
    assert not list(out.rglob(".*")), "no half-written file stays"
    before = {p: p.stat().st_mtime_ns for p in (out / "masks").rglob("*.png")}
    assert label(model_file, drives, out) == 1
    assert "is not empty; go on with it by --resume" in capsys.readouterr().err
    assert label(model_file, drives, out, "--resume") == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before, "what is done is not done again"
    ended, undisturbed = snapshot(out), snapshot(tmp_path / "whole")
    reports = [json.loads(files.pop("report.json")) for files in (ended, undisturbed)]
    assert ended == undisturbed
    assert [report["images"].pop("of_earlier_runs") for report in reports] == [2, 0] and reports[0] == reports[1]


def test_masks_of_two_kinds_are_never_mixed(model_file, drives, tmp_path, capsys):
    out = tmp_path / "out"
    assert label(model_file, drives, out) == 0
    before = snapshot(out)
    assert label(model_file, drives, out, "--resume", "--keep-share", 0.7, "--seed", 1) == 1
    error = capsys.readouterr().err
    assert "keep_share was 0.5, and is 0.7; seed was 0, and is 1" in error
    network = roadseg.build_model("twins_svt_nano", "linear_concat", 11, width=16)
    other = write_model(tmp_path / "other.safetensors", network, "camvid11")
    assert label(other, drives, out, "--resume") == 1
    assert "model_digest was" in capsys.readouterr().err
    regions = tmp_path / "regions.yaml"
    regions.write_text("- polygon: [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]\n")
    assert label(model_file, drives, out, "--resume", "--ignore-regions", regions) == 1
    assert "ignore_regions was None" in capsys.readouterr().err
    assert snapshot(out) == before
    # A mask that came from elsewhere, and a link that stands for another picture.
    shutil.copy(drives / "a" / "0001.png", out / "masks" / "a" / "0001.png")
    (out / "images" / "b" / "0001.png").unlink()
    (out / "images" / "b" / "0001.png").symlink_to(drives / "a" / "0001.png")
    assert label(model_file, drives, out, "--resume") == 1
    error = capsys.readouterr().err
    assert "a/0001.png was not made with the settings of" in error and "b/0001.png stands for" in error


def test_new_drives_join_with_the_thresholds_that_were_measured(model_file, drives, tmp_path):
    out = tmp_path / "out"
    assert label(model_file, drives, out) == 0
    settings = (out / "settings.json").read_bytes()
    write_photo(drives / "d" / "0001.png", 99)
    assert label(model_file, drives, out, "--resume") == 0
    assert (out / "settings.json").read_bytes() == settings and (out / "masks" / "d" / "0001.png").exists()


def test_images_that_cannot_be_used_are_reported_and_stop_nothing(model_file, drives, tmp_path, capsys):
    (drives / "a" / "0002.png").write_bytes((drives / "a" / "0002.png").read_bytes()[:300])
    exif = Image.Exif()
    exif[0x0112] = 6
    write_photo(drives / "b" / "0003.jpg", 3, exif=exif.tobytes())
    out = tmp_path / "out"
    assert label(model_file, drives, out, "--batch-size", 3) == 1
    error = capsys.readouterr().err
    assert "2 images could not be used" in error and "Traceback" not in error
    assert "a/0002.png is truncated or damaged" in error and "b/0003.jpg carries the EXIF orientation 6" in error
    report = json.loads((out / "report.json").read_text())
    assert report["images"] == {
        "labelled": 4, "of_earlier_runs": 0, "empty": 0, "failed": 2, "sampled_for_thresholds": 4
    }  # fmt: skip
    assert [Path(failure["image"]).name for failure in report["failures"]] == ["0002.png", "0003.jpg"]
    (tmp_path / "out").rename(tmp_path / "folder")
    assert len(open_frames("folder", root=tmp_path, taxonomy="camvid11")) == 4
    (tmp_path / "folder").rename(tmp_path / "out")
    shutil.rmtree(out)
    for path in drives.rglob("*.*"):
        path.write_bytes(b"")
    assert label(model_file, drives, out) == 1
    assert "none of the 6 images of the sample can be used; the first:" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-threshold", "1.5"], "max_threshold is 1.5; use 0 to 1"),
        (["--max-threshold", "nan"], "max_threshold is nan"),
        (["--min-confidence", "0.95"], "min_confidence is 0.95; use 0 to max_threshold, which is 0.9"),
        (["--min-confidence", "nan"], "min_confidence is nan"),
        (["--keep-share", "0"], "keep_share is 0.0; use a value above 0"),
        (["--sample-frames", "0"], "sample_frames is 0; use at least 1"),
        (["--batch-size", "0"], "batch_size is 0; use at least 1"),
        (["--seed", "-1"], "seed is -1; use 0 or more"),
    ],
)
def test_values_that_cannot_work_are_named(model_file, drives, tmp_path, capsys, arguments, message):
    assert label(model_file, drives, tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_segmented(drives, tmp_path, monkeypatch):
    class Refusing:
        digest, engine, taxonomy = "0", SimpleNamespace(precision="f32"), roadseg.load_taxonomy("camvid11")

        def __call__(self, *arguments, **options):
            raise AssertionError("segmented")

    def start(folder):
        pseudo_label(Refusing(), UnlabelledImages([drives]), folder, PseudoLabelOptions())

    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"into .*/file: Not a directory; choose another folder"):
        start(tmp_path / "file" / "below" / "out")
    with pytest.raises(AssertionError, match="segmented"):
        start(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".*")), "nothing is left behind"

    def refuse(*arguments, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)  # as file systems do that have no links
    with pytest.raises(OutputError, match="symbolic links into .*: Operation not permitted"):
        start(tmp_path / "new" / "out")


def test_an_image_of_one_pixel_and_ignored_regions(model_file, tmp_path):
    write_photo(tmp_path / "in" / "a" / "one.png", 0, (1, 1))
    write_photo(tmp_path / "in" / "a" / "two.png", 0, (40, 56))
    regions = tmp_path / "regions.yaml"
    regions.write_text("- polygon: [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]\n  frames: 'a/two'\n")
    assert label(model_file, tmp_path / "in", tmp_path / "out", "--ignore-regions", regions, "--keep-share", 1) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "masks" / "a" / "one.png")).shape == (1, 1)
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a" / "two.png"))
    assert (mask[20:] == 255).all() and (mask[:20] != 255).any()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert sum(shown["predicted_pixels"] for shown in report["classes"].values()) == 1 + 20 * 56


def test_a_tally_survives_plain_values():
    mask, confidence = np.array([[0, 2, 2]], np.uint8), np.array([[0.25, 0.5, 1.0]], np.float32)
    tally = Tally.of(mask, np.array([[255, 2, 2]], np.uint8), confidence, 4)
    assert tally.to_dict() == {"0": [1, 0, 0.0], "2": [2, 2, 1.5]}
    again = Tally.from_dict(json.loads(json.dumps(tally.to_dict())), 4)
    assert all(np.array_equal(getattr(tally, k), getattr(again, k)) for k in ("predicted", "kept", "confidence"))


def write_model(path: Path, network: torch.nn.Module, taxonomy: str) -> Path:
    classes = roadseg.load_taxonomy(taxonomy)
    architecture = Architecture("twins_svt_nano", "linear_concat", len(classes), {"width": 16})
    header = ModelHeader(architecture, classes, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    write_model_file(path, header, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    return path


def test_the_loop_from_a_model_to_a_training_on_its_pseudo_labels(tmp_path, monkeypatch):
    """The recipe as it is written: labelled frames of two drives, one held out, and drives that the model labels."""
    for name in ("0006R0_f0", "0006R0_f1", "0016E5_0", "0016E5_1"):
        write_coarse(tmp_path / "data", "train", name)
        write_fine(tmp_path / "data", name)
    for seed, name in enumerate(("new/0001", "new/0002", "0016E5/0001")):
        write_photo(tmp_path / "drives" / f"{name}.png", seed, (96, 128))
    torch.manual_seed(0)
    network = roadseg.build_model("twins_svt_nano", "linear_concat", 14, width=16)
    torch.nn.init.normal_(network.decoder.head.weight, std=2.0)
    model = write_model(tmp_path / "model.safetensors", network, "hdmap-camvid")
    monkeypatch.chdir(tmp_path)
    assert label(model, "drives", "pseudo") == 0
    monkeypatch.setenv("ROADSEG_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "argv", ["lightning"])
    recipe = Path(roadseg.__file__).parents[1] / "configs" / "self_training.yaml"
    trained, given = set(), {}

    def remember(task, outputs, batch, batch_idx) -> None:
        trained.update(batch["name"])
        given.update(task.trainer.datamodule.describe()["frames"])

    monkeypatch.setattr(SegmentationTask, "on_train_batch_end", remember)
    small = ["--data.crop_size=[64,64]", "--data.num_workers=0", "--trainer.max_steps=1", "--trainer.accelerator=cpu"]
    small += ["--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false", "--trainer.val_check_interval=1"]
    assert lightning_main(["fit", "-c", str(recipe), *small]) == 0
    assert given["train"]["pseudo"] == 2, "the held-out drive is not trained on through its pseudo-labels either"
    assert given["val"].get("pseudo", 0) == 0
    assert trained & {"new/0001", "new/0002"} and trained & {"0006R0_f0", "0006R0_f1"}
    assert yaml.safe_load(recipe.read_text())["data"]["datasets"][2]["splits"] == ["train"]
    assert os.readlink("pseudo/images/new/0001.png") == str(tmp_path / "drives" / "new" / "0001.png")


def test_the_commands_help_has_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["data", "pseudo-label", "--help"])
    assert "example:\n  roadseg data pseudo-label drives/ --model" in capsys.readouterr().out

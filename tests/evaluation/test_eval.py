"""`roadseg eval` as a user meets it: its figures against scores written out again in numpy, its files, its refusals."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import roadseg.cli
from roadseg import load_predictor, load_taxonomy
from roadseg.cli import main
from roadseg.inference.predictor import Predictor
from tests.data.mixtures import write_both

NAMES = load_taxonomy("camvid11").names
COARSE = {
    "road": "road", "lane_marking": "road", "sidewalk": "pavement", "barrier": "fence", "wall": "building",
    "pole": "pole", "traffic_sign": "sign_symbol", "traffic_light": "sign_symbol", "building": "building",
    "vegetation": "tree", "sky": "sky", "vehicle": "car", "two_wheeler": "bicyclist", "person": "pedestrian",
}  # fmt: skip


def frames_of(root, model, names=None):
    """(truth, prediction) of each validation frame in CamVid-11 ids, truth straight from the files."""
    predictor = load_predictor(model, device="cpu")
    table = np.array([NAMES.index((names or {}).get(n, n)) for n in predictor.taxonomy.names])
    for path in sorted((root / "camvid" / "val").glob("*.png")):
        truth = np.asarray(Image.open(root / "camvid" / "valannot" / path.name))
        yield path.stem, truth, table[predictor(path).mask]


def confusion_of(truth, predicted):
    counts = np.zeros((11, 11), int)
    for t in range(11):
        for p in range(11):
            counts[t, p] = ((truth == t) & (predicted == p)).sum()
    return counts


def ious(counts):
    return np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts)).clip(1)


@pytest.fixture
def scored(config, camvid_root, models, tmp_path, capsys):
    folder = tmp_path / "scores"
    assert main(["eval", str(models["camvid"]), "-c", config(), "-o", str(folder), "--worst", "3"]) == 0
    return folder, capsys.readouterr().out


def test_the_figures_are_what_a_reader_finds_from_the_files_and_the_predictor(scored, camvid_root, models):
    folder, shown = scored
    each = {name: confusion_of(t, p) for name, t, p in frames_of(camvid_root, models["camvid"])}
    counts = sum(each.values())
    document = json.loads((folder / "scores.json").read_text())
    scores = document["scores"]
    assert scores["iou"] == pytest.approx(dict(zip(NAMES, ious(counts), strict=True)), abs=1e-12)
    assert scores["miou"] == pytest.approx(ious(counts).mean(), abs=1e-12)
    assert scores["accuracy"] == pytest.approx(np.diag(counts).sum() / counts.sum(), abs=1e-12)
    assert f"mIoU             {ious(counts).mean():.4f}\n" in shown
    assert document["data"]["frames"] == 5 and document["data"]["datasets"] == {"camvid": 5}
    with (folder / "confusion.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header[1:] == NAMES and [row[0] for row in rows] == NAMES
    assert np.array_equal(np.array([row[1:] for row in rows], int), counts)
    with (folder / "scores.csv").open() as file:
        table = {row["class"]: row for row in csv.DictReader(file)}
    assert [int(table[name]["pixels"]) for name in NAMES] == counts.sum(1).tolist()
    assert float(table["road"]["iou"]) == scores["iou"]["road"] and table["sky"]["thin_recall"] == ""
    assert float(table["pole"]["thin_cldice"]) == scores["thin"]["pole"]["cldice"]
    own = {name: ious(c)[c.sum(1) > 0].mean() for name, c in each.items()}
    worst = {entry["frame"]: entry["miou"] for entry in document["worst"]}
    assert list(worst) == sorted(own, key=own.get)[:3]
    assert worst == pytest.approx({name: own[name] for name in worst}, abs=1e-12)


def test_pictures_are_readable_and_say_nothing_of_this_machine(scored, models):
    folder, _ = scored
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*")) == [
        "confusion.csv", "confusion.png", "scores.csv", "scores.json", "worst/01.jpg",
    ]  # fmt: skip
    sheet = np.asarray(Image.open(folder / "worst" / "01.jpg"))
    assert sheet.shape[1] == 4 * 400 + 3 * 4 and sheet.shape[0] > 3 * 400 * 64 // 96
    assert min(Image.open(folder / "confusion.png").size) > 500
    text = (folder / "scores.json").read_text()
    assert str(models["camvid"].parent) not in text and str(folder.parent) not in text
    assert json.loads(text)["model"]["digest"] == load_predictor(models["camvid"], device="cpu").digest


def test_labels_that_do_not_tell_classes_apart_give_the_score_of_classes_merged_by_name(
    config, camvid_root, models, tmp_path
):
    folder = tmp_path / "scores"
    assert main(["eval", str(models["hdmap"]), "-c", config(), "-o", str(folder), "--worst", "0"]) == 0
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    counts = sum(confusion_of(t, p) for _, t, p in frames_of(camvid_root, models["hdmap"], COARSE))
    assert scores["miou_merged"] == pytest.approx(ious(counts).mean(), abs=1e-12)
    assert scores["iou"]["road"] is None
    assert scores["iou"]["road+lane_marking"] == pytest.approx(ious(counts)[NAMES.index("road")], abs=1e-12)
    assert not (folder / "worst").exists()


def test_thin_classes_can_be_chosen_and_must_be_there(config, models, tmp_path, capsys):
    folder = tmp_path / "scores"
    command = ["eval", str(models["camvid"]), "-c", config(), "--frames", "1", "--thin-classes"]
    assert main([*command, "fence, car", "-o", str(folder), "--worst", "0"]) == 0
    assert list(json.loads((folder / "scores.json").read_text())["scores"]["thin"]) == ["fence", "car"]
    assert main([*command, "lamp"]) == 1
    assert "no class 'lamp'; it has sky" in capsys.readouterr().err


def test_drives_that_the_configuration_holds_out_are_scored(tmp_path, config, models, capsys):
    write_both(tmp_path)
    path = config(root=str(tmp_path), datasets=[{"dataset": "camvid"}], hold_out=["B"])
    assert main(["eval", str(models["camvid"]), "-c", path]) == 0
    assert "split val: 4 frames" in capsys.readouterr().out


def test_some_frames_are_spread_over_the_split(config, models, monkeypatch, capsys):
    seen = []
    call = Predictor.__call__

    def watched(self, image, **options):
        seen.append(options["name"])
        return call(self, image, **options)

    monkeypatch.setattr(Predictor, "__call__", watched)
    assert main(["eval", str(models["camvid"]), "-c", config(), "--frames", "2"]) == 0
    assert seen == ["frame_000", "frame_002"] and "2 of 5 frames" in capsys.readouterr().out


def test_frames_without_any_label_give_no_score_and_no_picture(config, camvid_root, models, tmp_path, capsys):
    for path in (camvid_root / "camvid" / "valannot").iterdir():
        Image.fromarray(np.full((64, 96), 11, np.uint8)).save(path)
    folder = tmp_path / "scores"
    assert main(["eval", str(models["camvid"]), "-c", config(), "-o", str(folder)]) == 0
    document = json.loads((folder / "scores.json").read_text())
    assert document["scores"]["miou"] is None and document["worst"] == []
    assert "mIoU             -" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_a_frame_that_cannot_be_scored_stops_the_run_by_name(damage, config, camvid_root, models, tmp_path, capsys):
    folder = camvid_root / "camvid"
    if damage == "cut":
        path = folder / "val" / "frame_003.png"
        path.write_bytes(path.read_bytes()[:-2000])
    else:
        Image.fromarray(np.zeros((32, 48), np.uint8)).save(folder / "valannot" / "frame_003.png")
    output = tmp_path / "scores"
    assert main(["eval", str(models["camvid"]), "-c", config(), "-o", str(output)]) == 1
    error = capsys.readouterr().err
    assert "frame frame_003 cannot be scored" in error and not output.exists()
    assert "48x32" in error or damage == "cut"


def test_an_interrupt_leaves_nothing(config, models, tmp_path, monkeypatch, capsys):
    def interrupted(self, image, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "__call__", interrupted)
    assert main(["eval", str(models["camvid"]), "-c", config(), "-o", str(tmp_path / "scores")]) == 130
    assert "interrupted" in capsys.readouterr().err and not (tmp_path / "scores").exists()


def test_a_folder_that_holds_something_is_kept_unless_told_otherwise(config, models, tmp_path, capsys):
    folder = tmp_path / "scores"
    (folder / "worst").mkdir(parents=True)
    (folder / "mine.txt").write_text("keep")
    (folder / "worst" / "02.jpg").write_text("of an earlier run")
    command = ["eval", str(models["camvid"]), "-c", config(), "-o", str(folder), "--worst", "1", "--frames", "1"]
    assert main(command) == 1
    assert "holds mine.txt, worst; give -o another folder, or --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert (folder / "mine.txt").read_text() == "keep" and (folder / "worst" / "01.jpg").exists()
    assert not (folder / "worst" / "02.jpg").exists()


def test_an_output_that_cannot_be_written_is_refused_before_anything_else(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["eval", "gone.safetensors", "-c", "gone.yaml", "-o", str(tmp_path / "file" / "scores")]) == 1
    assert "cannot write to" in capsys.readouterr().err
    assert main(["eval", "gone.safetensors", "-c", "gone.yaml", "-o", str(tmp_path / "file")]) == 1
    assert "is a file; give -o a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("gone.safetensors", {}, "no model file at gone.safetensors"),
        ("no-such-model", {}, "no-such-model"),
        (Path("best.ckpt"), {}, "is a training checkpoint"),
        ("camvid", {"datasets": [{"dataset": "camvid", "splits": ["train"]}]}, "splits with frames: train (8)"),
        ("camvid", {"datasets": [{"dataset": "synthetic"}]}, "taxonomy 'camvid11', in which"),
        ("camvid", {"datasets": [{"dataset": "synthetic"}]}, "dataset 'synthetic'"),
        ("hdmap", {"datasets": [{"dataset": "camvid", "label_map": {"car": []}}]}, "in classes of 'camvid11', but"),
        ("camvid", {"hold_out": ["nowhere"]}, "the drive nowhere"),
        ("camvid", {"batch": 3}, "batch"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_name(model, data, message, config, models, tmp_path, capsys):
    if isinstance(model, Path):
        model = tmp_path / model
        model.write_bytes(b"pickle")
    assert main(["eval", str(models.get(model, model)), "-c", config(**data)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "validation"], "invalid choice: 'validation'"),
        (["--frames", "0"], "'0'; use a whole number of at least 1"),
        (["--worst", "-1"], "'-1'; use a whole number of at least 0"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["eval", "m", "-c", "d", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["eval", "compare"])
def test_help_has_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    example = capsys.readouterr().out.partition("example:\n")[2].split()
    parsed = roadseg.cli._parser().parse_args(example[1:])
    assert example[:2] == ["roadseg", name] and Path(parsed.config).is_file()


def test_help_needs_no_heavy_package():
    code = (
        "import sys\nfrom roadseg.cli import main\n"
        "try: main(['eval', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'matplotlib', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

"""`roadseg data ...` as a user meets it: what it prints, writes and refuses, and its exit status."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from roadseg.cli import main
from roadseg.data import open_frames
from roadseg.data.splitting import read_split
from tests.data.mixtures import write_both


@pytest.fixture
def config(tmp_path):
    """A configuration of both CamVids, written beside their tree; gives its path."""
    write_both(tmp_path)

    def write(**data):
        datasets = [{"dataset": "camvid"}, {"dataset": "camvid32", "short_side_px": 48}]
        section = {"root": str(tmp_path), "taxonomy": "hdmap-camvid", "datasets": datasets, **data}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({"data": section}))
        return str(path)

    return write


def test_an_audit_names_the_leak_and_the_classes_that_are_missing(config, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["data", "audit", "-c", config(), "--workers", "1", "--json", str(report)]) == 1
    shown = capsys.readouterr().out
    assert "leak-drive" in shown and "B: 2 frames in train, 2 in val" in shown
    assert "class-missing" in shown and "pole" in shown
    assert json.loads(report.read_text())["exit_code"] == 1


def test_findings_are_waived_in_the_configuration_and_on_the_command_line(config, capsys):
    path = config(waive=["leak-drive:B", "class-missing", "class-rare"])
    others = ["--waive", "duplicate-frame", "--waive", "leak-frame"]
    assert main(["data", "audit", "-c", path, "--workers", "1", *others]) == 0
    assert "0 errors" in capsys.readouterr().out


def test_a_dataset_that_cannot_be_opened_is_a_finding_and_the_other_is_audited(config, tmp_path, capsys):
    (tmp_path / "camvid32" / "labels" / "A_1_L.png").unlink()
    assert main(["data", "audit", "-c", config(hold_out=["B"]), "--workers", "1"]) == 1
    shown = capsys.readouterr().out
    assert "unpaired" in shown and "A_1.png" in shown and "camvid train: 3 frames" in shown


def test_pictures_show_what_the_network_sees(config, tmp_path, capsys):
    folder = tmp_path / "pictures"
    path = config(hold_out=["B"], crop_size=[32, 40])
    main(["data", "audit", "-c", path, "--workers", "1", "--pictures", str(folder)])
    sheet = np.asarray(Image.open(folder / "audit_samples.png").convert("RGB"))
    assert sheet.shape[0] > 32 and sheet.std() > 0
    assert Image.open(folder / "audit_classes.png").size > (100, 100)


def test_pictures_need_a_configuration(tmp_path, capsys):
    assert main(["data", "audit", str(tmp_path), "--pictures", str(tmp_path)]) == 1
    assert "--pictures shows frames as the network sees them" in capsys.readouterr().err


def test_a_split_is_drawn_written_and_used(config, tmp_path, capsys):
    output = tmp_path / "split.yaml"
    assert main(["data", "split", "-c", config(), "--val", "0.3", "-o", str(output)]) == 0
    held = read_split(output).val
    assert f"val: {', '.join(held)}" in capsys.readouterr().out
    assert main(["data", "coverage", "-c", config(split_file=str(output))]) == 0


def test_a_share_that_cannot_be_is_refused_and_nothing_written(config, tmp_path, capsys):
    assert main(["data", "split", "-c", config(), "--val", "1.5", "-o", str(tmp_path / "s.yaml")]) == 1
    assert "1.5" in capsys.readouterr().err and not (tmp_path / "s.yaml").exists()


def test_shards_of_every_dataset_are_written_and_train_alike(config, tmp_path, capsys):
    assert main(["data", "shard", "-c", config(), "-o", str(tmp_path / "shards"), "--frames", "2"]) == 0
    assert "wrote 7 frames of camvid to" in capsys.readouterr().out
    shards = open_frames("shards", root=tmp_path, taxonomy="camvid11", url=(tmp_path / "shards" / "camvid").as_uri())
    files = open_frames("camvid", root=tmp_path)
    assert len(shards) == len(files) == 5
    for i in range(5):
        assert all(np.array_equal(a, b) for a, b in zip(shards[i], files[i], strict=True))


@pytest.mark.parametrize(
    ("name", "words"), [("cityscapes", ["register", "leftImg8bit"]), ("camvid32", ["label_colors.txt"])]
)
def test_the_way_to_a_dataset_is_explained(capsys, name, words):
    assert main(["data", "get", name]) == 0
    shown = capsys.readouterr().out
    assert all(word.lower() in shown.lower() for word in words)


def test_an_unknown_dataset_is_named(capsys):
    assert main(["data", "get", "kamvid"]) == 1
    assert "no dataset 'kamvid'; known: ade20k" in capsys.readouterr().err


def test_a_dataset_that_is_there_is_not_fetched_over(tmp_path, capsys):
    (tmp_path / "camvid").mkdir()
    (tmp_path / "camvid" / "mine.txt").write_text("keep")
    assert main(["data", "get", "camvid", "--root", str(tmp_path)]) == 1
    assert str(tmp_path / "camvid") in capsys.readouterr().err
    assert (tmp_path / "camvid" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("command", ["coverage", "audit", "split", "get", "shard"])
def test_every_commands_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["data", command, "--help"])
    assert f"example:\n  roadseg data {command}" in capsys.readouterr().out

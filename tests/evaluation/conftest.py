"""Tiny models and configurations that the tests of scoring share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from roadseg import build_model, load_taxonomy
from roadseg.inference.package import Architecture, ModelHeader, write_model_file


def write_model(path: Path, taxonomy, seed: int = 0, order=None, short_side_px=None, provenance=None) -> Path:
    """A random network whose masks vary; `order` permutes its classes, with the weights that belong to them."""
    torch.manual_seed(seed)
    network = build_model("twins_svt_nano", "linear_concat", len(taxonomy), width=16).eval()
    torch.nn.init.normal_(network.decoder.head.weight, std=2.0)
    weights = network.state_dict()
    if order is not None:
        taxonomy = taxonomy.subset("reordered", 1, [taxonomy.names[i] for i in order])
        for name in ("decoder.head.weight", "decoder.head.bias"):
            weights[name] = weights[name][list(order)]
    header = ModelHeader(
        Architecture("twins_svt_nano", "linear_concat", len(taxonomy), {"width": 16}),
        taxonomy,
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        short_side_px,
        provenance=provenance or {},
    )
    write_model_file(path, header, {name: tensor.contiguous().numpy() for name, tensor in weights.items()})
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model files by name; `reordered` is `camvid` with its classes in another order."""
    folder = tmp_path_factory.mktemp("models")
    camvid, hdmap = load_taxonomy("camvid11"), load_taxonomy("hdmap-camvid")
    return {
        "camvid": write_model(folder / "camvid.safetensors", camvid),
        "other": write_model(folder / "other.safetensors", camvid, seed=1, short_side_px=40),
        "reordered": write_model(folder / "reordered.safetensors", camvid, order=range(10, -1, -1)),
        "hdmap": write_model(folder / "hdmap.safetensors", hdmap, seed=2),
    }


@pytest.fixture
def config(tmp_path: Path, camvid_root: Path) -> Callable[..., str]:
    """Writes a configuration of the tiny CamVid; gives its path."""

    def write(**data) -> str:
        section = {"root": str(camvid_root), "datasets": [{"dataset": "camvid", "short_side_px": 32}], **data}
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({"data": section}))
        return str(path)

    return write

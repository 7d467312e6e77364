"""The conclusion of a duel, from predictors to its files, against counts by numpy."""

import json

import numpy as np
import pytest

from benchmarks.duel import conclude
from roadseg import build_model, load_predictor, load_taxonomy
from roadseg.evaluation.frames import open_scored
from tests.evaluation.conftest import config, write_model  # noqa: F401 - a fixture

TAXONOMY = load_taxonomy("camvid11")
SKY = TAXONOMY.id_of("sky")


def sky_iou(predictor, frames):
    inter = union = 0
    for index in range(len(frames)):
        frame = frames.read(index)
        labelled = frame.truth != 255
        predicted, true = (predictor(frame.image).mask == SKY) & labelled, frame.truth == SKY
        inter, union = inter + (predicted & true).sum(), union + (predicted | true).sum()
    return inter / union


def test_the_conclusion_holds_every_seed_and_its_files(config, tmp_path, monkeypatch, capsys):  # noqa: F811
    files = {(m, s): tmp_path / f"{m}{s}.safetensors" for m in ("twins", "deeplabv3plus-resnet50") for s in (0, 1, 2)}
    predictors = {}
    for number, ((model, seed), path) in enumerate(files.items()):
        loaded = load_predictor(write_model(path, TAXONOMY, seed=number), device="cpu")
        predictors.setdefault(model, {})[seed] = loaded
    data, out = config(), tmp_path / "out" / "results.json"
    out.parent.mkdir()
    monkeypatch.setattr(conclude, "load_finished", lambda *_: predictors)
    monkeypatch.setattr(conclude, "trials", lambda *_: {1e-3: 0.1, 2e-3: 0.3, 4e-3: float("nan")})
    monkeypatch.setattr(conclude, "_data_file", lambda *_: data)
    monkeypatch.setattr("sys.argv", ["conclude", "--replicates", "50", "-o", str(out)])
    conclude.main()
    report = json.loads(out.read_text())

    (pair,) = report["pairs"]
    assert pair["models"] == ["twins", "deeplabv3plus-resnet50"] and pair["seeds"] == [0, 1, 2]
    frames = open_scored(data, "val", TAXONOMY)
    row = pair["scores"]["iou/sky"]
    for model, values in zip(pair["models"], row["values"], strict=True):
        assert values == pytest.approx([sky_iou(predictors[model][seed], frames) for seed in (0, 1, 2)], abs=1e-9)
    assert row["differences"] == pytest.approx(np.subtract(*row["values"]).tolist(), abs=1e-12)
    assert all(low <= value <= high for value, (low, high) in zip(row["differences"], row["intervals"], strict=True))
    assert report["frames"] == len(frames) and report["tuning"]["twins"]["trials"]["0.004"] is None
    network = build_model("twins_svt_nano", "linear_concat", len(TAXONOMY), width=16)
    assert report["costs"]["twins"]["parameters"] == sum(weights.numel() for weights in network.parameters())
    assert report["costs"]["twins"]["size"] == [64, 96] and report["costs"]["twins"]["median_s"] > 0
    assert (out.parent / "differences.png").read_bytes().startswith(b"\x89PNG") and (out.parent / "logs").is_dir()
    shown = capsys.readouterr().out
    assert "twins against deeplabv3plus-resnet50, seeds [0, 1, 2]" in shown and "\n* boundary_f1/2px " in shown

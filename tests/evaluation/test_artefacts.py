"""`roadseg eval` and `roadseg compare` take exported models: what they score is what was exported."""

import json

import pytest

from roadseg.cli import main


def scores_of(folder):
    return json.loads((folder / "scores.json").read_text())


def test_an_openvino_artefact_scores_what_its_model_file_does(tiny_models, tiny_artefacts, config, tmp_path, capsys):
    pytest.importorskip("openvino")
    artefact = tiny_artefacts("openvino", None)
    for name, model, engine in (("file", tiny_models[None].path, "torch"), ("folder", artefact.path, "auto")):
        command = ["eval", str(model), "-c", config(), "-o", str(tmp_path / name), "--worst", "1"]
        assert main([*command, "--engine", engine, "--device", "cpu"]) == 0
    first, second = (scores_of(tmp_path / name) for name in ("file", "folder"))
    assert "  openvino f32 on cpu\n" in capsys.readouterr().out
    assert second["model"]["digest"] == artefact.digest != first["model"]["digest"]
    assert (second["model"]["engine"], second["model"]["precision"]) == ("openvino", "f32")
    for name in ("miou", "accuracy", "boundary_iou", "ece"):
        assert second["scores"][name] == pytest.approx(first["scores"][name], abs=5e-5), name
    assert first["scores"]["miou"] > 0 and second["classes"][0]["pixels"] == first["classes"][0]["pixels"]


def test_a_model_and_what_it_was_exported_to_are_compared(tiny_models, tiny_artefacts, config, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "out"
    command = ["compare", str(tiny_models[None].path), str(tiny_artefacts("onnx", None).path), "-c", config()]
    assert main([*command, "--replicates", "2", "--device", "cpu", "-o", str(folder), "--pictures", "0"]) == 0
    document = json.loads((folder / "compare.json").read_text())
    assert [document["models"][side]["engine"] for side in "ab"] == ["torch", "onnx"]
    assert document["scores"]["miou"]["a"] == pytest.approx(document["scores"]["miou"]["b"], abs=5e-5)


def test_an_engine_that_cannot_run_the_model_is_named(tiny_artefacts, config, capsys):
    command = ["eval", str(tiny_artefacts("openvino", None).path), "-c", config()]
    assert main([*command, "--engine", "onnx"]) == 1
    assert "was exported for the engine 'openvino' and cannot run in 'onnx'" in capsys.readouterr().err

"""Exporting: from a model file to a folder that is verified, refused where it differs, and served without torch."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

import onnx
from onnx import numpy_helper

import roadseg
from roadseg.cli import _parser, main
from roadseg.errors import ArtefactError, EngineError, ImageSizeError, MismatchError
from roadseg.inference.artefact import read_artefact
from roadseg.inference.bundled import model_path
from roadseg.inference.engines import make_engine, thread_count
from roadseg.inference.export import graph
from roadseg.inference.export.scoring import Scores
from roadseg.inference.export.verify import Check, Verification, VerificationFrames, refuse_mismatch, verify
from roadseg.inference.export.write import WRITERS, export_model
from roadseg.inference.licence import tell_licence
from roadseg.inference.package import read_model_file
from roadseg.label_sets import LabelSets

ROOT = Path(roadseg.__file__).parents[1]
RNG = np.random.default_rng(0)


def picture(height, width):
    coarse = RNG.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]


@pytest.fixture
def exported_once(tiny_artefacts, monkeypatch):
    """Exports take the network that was exported for all tests of tiny models."""
    network = tiny_artefacts.onnx_network  # exported before the function that does it is replaced

    def export_network(model, *, half=False, static_size=None):
        copy = onnx.ModelProto()
        copy.CopyFrom(network)
        return copy

    monkeypatch.setattr(graph, "export_network", export_network)


@pytest.fixture
def frames(tiny_models):
    """Two small frames with labels."""
    taxonomy = tiny_models[64].header.taxonomy
    truths = [RNG.integers(0, len(taxonomy), (70, 90), np.uint8) for _ in range(2)]
    images = [picture(70, 90) for _ in range(2)]
    return VerificationFrames("drawn ones", images, truths, LabelSets.collect(taxonomy, []))


@pytest.fixture
def quick(monkeypatch):
    """Fewer sizes to verify at."""
    monkeypatch.setattr("roadseg.inference.export.verify.SIZES", ((64, 96), (97, 131)))


def test_an_export_is_verified_and_says_all_about_itself(tiny_models, exported_once, quick, frames, tmp_path):
    model, shown = tiny_models[64], []
    artefact = export_model(model, "onnx", "auto", tmp_path / "out", frames=frames, report=shown.append)
    document = json.loads((tmp_path / "out" / "artefact.json").read_text())
    assert (artefact.facts.precision, document["model_digest"]) == ("f32", model.digest)
    assert document["model"] == json.loads(model.header.to_json())
    found = document["verification"]
    assert found["agreement"] >= 0.9999 and found["source"] == "drawn ones" and found["frames"] == 2
    assert [(check["size"], check["batch"]) for check in found["checks"]] == [
        ([64, 96], 1),
        ([64, 96], 2),
        ([97, 131], 1),
        ([97, 131], 2),
    ]
    assert (
        found["scores"]["miou"] == pytest.approx(found["scores_of_model"]["miou"], abs=1e-3)
        and found["frames_agreement"] > 0
    )
    assert found["scores"]["miou"] > 0 and set(found["scores"]["boundary_f1"]) == {"1px", "2px", "3px"}
    assert set(found["scores"]["thin_recall"]) == {"pole", "sign_symbol"} and document["unverified"] == ""
    assert "all pixels of these and of 2 frames (drawn ones)" in shown[0].to_text()
    assert re.search(r"\nthin recall, pole +0\.\d{4} +0\.\d{4} +[+-]0\.\d{4}\n", shown[0].to_text())
    assert {"roadseg", "torch", "onnx", "onnxruntime"} <= set(document["versions"])
    inside = {p.key: p.value for p in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert inside == {"roadseg": replace(artefact.facts, verification=None, details={}).metadata()}


def test_an_export_that_nobody_verified_says_so_and_is_served(tiny_models, exported_once, monkeypatch, tmp_path):
    monkeypatch.setattr("roadseg.inference.export.write.compare_with_torch", None)  # it is not to be called
    artefact = export_model(tiny_models[64], "onnx", "f32", tmp_path / "out", verify=False)
    assert artefact.name == tiny_models[64].path.stem  # whatever the folder is called
    document = json.loads((tmp_path / "out" / "artefact.json").read_text())
    assert document["verification"] is None and "verify=False" in document["unverified"]
    assert roadseg.load_predictor(tmp_path / "out", device="cpu")(picture(40, 60)).mask.shape == (40, 60)


def test_the_file_says_nothing_of_the_machine_that_made_it(tiny_artefacts):
    data = tiny_artefacts("onnx", 64).file("model.onnx").read_bytes()
    for private in (str(ROOT), "site-packages", "stack_trace", str(Path.home())):
        assert private.encode() not in data


def shifted(model):
    """A network whose first class wins by far."""
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    (bias,) = (each for each in broken.graph.initializer if each.name.endswith("head.bias"))
    values = numpy_helper.to_array(bias).copy()
    values[0] += 50
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return broken


def test_an_export_that_computes_something_else_is_refused(tiny_models, tiny_artefacts, quick, monkeypatch, tmp_path):
    broken = shifted(tiny_artefacts.onnx_network)
    monkeypatch.setattr(graph, "export_network", lambda model, **options: broken)
    with pytest.raises(
        MismatchError, match=r"(?s)agree.*the onnx model in f32 differs from its model file: .*--allow-m"
    ):
        export_model(tiny_models[64], "onnx", "f32", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    artefact = export_model(tiny_models[64], "onnx", "f32", tmp_path / "out", allow_mismatch=True)
    assert artefact.facts.verification["agreement"] < 0.9, "kept on request, and it says so"


def test_an_artefact_is_served_without_torch(tiny_models, tiny_artefacts, tmp_path):
    """torch, timm and onnx are hidden, as if they had not been installed."""
    image = picture(90, 120)
    np.save(tmp_path / "image.npy", image)
    script = (
        "import sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'onnx', 'onnxscript', 'openvino', 'lightning'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np, roadseg\n"
        "folder, image, mask = sys.argv[1:]\n"
        "predictor = roadseg.load_predictor(folder, device='cpu')\n"
        "result = predictor(np.load(image), confidence=True)\n"
        "assert result.confidence.shape == result.mask.shape\n"
        "np.save(mask, result.mask)\n"
        "print(predictor.engine.name, result.model_digest)\n"
    )
    artefact = tiny_artefacts("onnx", 64)
    arguments = [str(artefact.path), str(tmp_path / "image.npy"), str(tmp_path / "mask.npy")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["onnx", artefact.digest]
    expected = roadseg.load_predictor(tiny_models[64].path, device="cpu")(image).mask
    assert (np.load(tmp_path / "mask.npy") == expected).mean() > 0.999 and len(np.unique(expected)) > 2


def test_the_command_prints_what_was_found(tiny_models, exported_once, quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROADSEG_DATA", str(tmp_path / "empty"))
    arguments = ["export", str(tiny_models[64].path), "--format", "onnx", "-o", str(tmp_path / "out"), "--frames", "1"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(r"97x131 +2 +(100.0000|99.99\d\d)%", shown)
    assert "of 1 frame (synthetic)" in shown and f"wrote {tmp_path / 'out'} (onnx, f32, " in shown
    assert read_artefact(tmp_path / "out").digest in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--format", "onnx", "--precision", "bf16"],
            "format 'onnx' has no precision 'bf16'; use f32, f16 (bf16: openv",
        ),
        (["--format", "onnx", "--size", "0x4"], "size is '0x4'; use HEIGHTxWIDTH"),
        (["--format", "onnx", "--calibration", "d"], "--calibration is for int8, and this export is in f32; leave it"),
        (
            ["--format", "openvino", "--precision", "bf16", "-c", "d.yaml"],
            "-c is for int8, and this export is in bf16; leave it out, or add --precision int8",
        ),
        (["--format", "onnx", "--calibration-frames", "9"], "--calibration-frames is for int8"),
        (["--format", "openvino", "--precision", "int8"], "give either --calibration DIR or -c DATA\n"),
        (
            ["--format", "openvino", "--precision", "int8", "--calibration", "d", "-c", "e"],
            "give either --calibration DIR or -c DATA, not both",
        ),
    ],
)
def test_the_command_refuses_before_it_computes(tiny_models, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROADSEG_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr(graph, "export_network", None)
    arguments = ["export", str(tiny_models[64].path), *arguments, "-o", str(tmp_path / "out"), "--frames", "1"]
    assert main(arguments) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_examples_of_the_help_parse(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help"])
    examples = capsys.readouterr().out.partition("example:\n")[2].strip().splitlines()
    parsed = [_parser().parse_args(example.split()[1:]) for example in examples]
    assert [(one.format, one.precision) for one in parsed] == [("onnx", "auto"), ("openvino", "int8")]


def found(agreement, worst=None, miou=None, of_model=None):
    checks = (Check((64, 96), 1, agreement, 0.0), Check((97, 131), 2, worst or agreement, 0.0))
    scores = [None if value is None else Scores(value, {"1px": 0.5}, {"pole": None}) for value in (miou, of_model)]
    return Verification("drawn ones", 1, checks, agreement, agreement, *scores)


@pytest.mark.parametrize(
    ("precision", "report"),
    [
        ("f32", found(0.9999)),
        ("f32", found(0.99995, worst=0.9991)),
        ("bf16", found(0.995)),
        ("f16", found(0.996, worst=0.96)),
        ("int8", found(0.92, miou=0.60, of_model=0.605)),
        ("int8", found(0.92, miou=0.61, of_model=0.60)),
        ("int8", found(0.98, worst=0.91, miou=0.60, of_model=0.60)),
        ("int8", found(0.97)),
    ],
)
def test_what_a_precision_explains_is_accepted(precision, report):
    refuse_mismatch(report, "onnx", precision)


@pytest.mark.parametrize(
    ("precision", "report", "reason"),
    [
        ("f32", found(0.9998), "99.9800% of the pixels agree; 99.99% have to"),
        ("f32", found(0.99995, worst=0.998), "99.8000% of the pixels agree at 97x131 px, batch 2; 99.90% have to"),
        ("f32", found(float("nan")), "nan% of the pixels agree"),
        ("bf16", found(0.994), "99.4000% of the pixels agree; 99.50% have to"),
        ("int8", found(0.999, miou=0.58, of_model=0.60), "its mIoU is 0.0200 lower; at most 0.01 is allowed"),
        ("int8", found(0.999, miou=float("nan"), of_model=0.60), "its mIoU is nan lower"),
        ("int8", found(0.96), "96.0000% of the pixels agree; 97.00% have to"),
        (  # the frames, all of one size, are as they should be
            "int8",
            found(0.99, worst=0.8, miou=0.60, of_model=0.60),
            "80.0000% of the pixels agree at 97x131 px, batch 2; 90.00% have to",
        ),
    ],
)
def test_what_it_does_not_explain_is_refused(precision, report, reason):
    with pytest.raises(MismatchError, match=reason):
        refuse_mismatch(report, "onnx", precision)


class Constant:
    """An engine that says one class everywhere, and is sure of it."""

    name, device, precision, batches, streams = "constant", "cpu", "f32", True, 1

    def __init__(self, class_id, confidence=1.0):
        self.class_id, self.confidence = class_id, confidence

    def run(self, images, outputs, *, rescale=True):
        mask = np.full(images.shape[:3], self.class_id, np.uint8)
        logits = 50 * np.eye(11, dtype=np.float32)[np.minimum(mask, 10)].transpose(0, 3, 1, 2)
        every = {"mask": mask, "confidence": np.full(mask.shape, self.confidence, np.float32), "logits": logits}
        return {name: every[name] for name in outputs}


def test_agreement_and_miou_are_those_counted_by_hand(tiny_models, frames, monkeypatch):
    monkeypatch.setattr("roadseg.inference.export.verify.TorchEngine", lambda *arguments: Constant(3))
    report = verify(Constant(3), tiny_models[None], frames)
    assert report.agreement == 1 and {check.agreement for check in report.checks} == {1.0}
    report = verify(Constant(4), tiny_models[None], frames)
    truth = np.stack(frames.truths)
    shares = [(truth == class_id).mean() for class_id in (3, 4)]
    present = len(np.unique(truth))
    assert report.agreement == report.frames_agreement == 0
    assert report.scores_of_model.miou == pytest.approx(shares[0] / present)  # of the other classes nothing is found
    assert report.scores.miou == pytest.approx(shares[1] / present)
    pole = tiny_models[None].header.taxonomy.id_of("pole")
    report = verify(Constant(pole), tiny_models[None], frames)
    assert (report.scores.thin_recall["pole"], report.scores_of_model.thin_recall["pole"]) == (1.0, 0.0)
    assert report.scores.thin_recall["sign_symbol"] == 0.0


def test_agreement_is_that_of_pixels_not_of_images(tiny_models, monkeypatch):
    """One frame of a hundred times as many pixels as the checks' outweighs them."""
    monkeypatch.setattr("roadseg.inference.export.verify.TorchEngine", lambda *arguments: Constant(3))
    monkeypatch.setattr("roadseg.inference.export.verify.SIZES", ((10, 10),))

    class RightOnSmallOnes(Constant):
        def run(self, images, outputs, *, rescale=True):
            return Constant(3 if images.shape[1] == 10 else 4).run(images, outputs)

    report = verify(RightOnSmallOnes(3), tiny_models[None], VerificationFrames("one", [picture(100, 200)]))
    assert report.agreement == pytest.approx(300 / (300 + 20_000)) and report.frames_agreement == 0


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Constant(3, float("nan")), "its confidences are not finite"),
        (Constant(3, float("inf")), "its confidences are not finite"),
        (Constant(11), "it gives class 11, and the last one is 10"),
    ],
)
def test_what_no_predictor_could_use_is_refused_whatever_is_allowed(tiny_models, monkeypatch, engine, reason, tmp_path):
    monkeypatch.setattr("roadseg.inference.export.write.make_engine", lambda *arguments: engine)
    monkeypatch.setattr(
        "roadseg.inference.export.runtimes.build_graph",
        lambda *arguments, **options: onnx.ModelProto(opset_import=[onnx.helper.make_opsetid("", 18)]),
    )
    with pytest.raises(MismatchError, match=f"cannot be used in the engine constant in f32: .*{reason}"):
        export_model(tiny_models[64], "onnx", "f32", tmp_path / "out", allow_mismatch=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("static_size", [None, (40, 60)])
def test_what_a_predictor_cannot_run_is_refused(tiny_models, monkeypatch, static_size):
    """On a CPU it asks for logits where images are resized, and the checks at fixed sizes never do."""
    monkeypatch.setattr("roadseg.inference.export.verify.TorchEngine", lambda *arguments: Constant(3))

    class OnlyMasks(Constant):
        def run(self, images, outputs, *, rescale=True):
            if "logits" in outputs:
                raise EngineError("no logits")
            return super().run(images, outputs)

    with pytest.raises(EngineError, match="no logits"):
        verify(OnlyMasks(3), tiny_models[64], None, static_size)


def test_an_artefact_of_one_size_refuses_others(tiny_models, exported_once, quick, tmp_path):
    artefact = export_model(tiny_models[None], "onnx", "f32", tmp_path / "out", static_size=(40, 60))
    assert [check["size"] for check in artefact.facts.verification["checks"]] == [[40, 60], [40, 60]]
    predictor = roadseg.load_predictor(tmp_path / "out", device="cpu")
    assert predictor(picture(40, 60)).mask.shape == (40, 60)
    with pytest.raises(
        ImageSizeError, match=r"images of 40x60 px only; this one has 41x60 px: export the model without --size"
    ):
        predictor(picture(41, 60))


def test_an_artefact_runs_in_its_own_engine_and_precision_only(tiny_artefacts):
    artefact = tiny_artefacts("onnx", None)
    with pytest.raises(
        EngineError, match="exported for the engine 'onnx' and cannot run in 'torch'; use engine 'auto'"
    ):
        make_engine(artefact, "torch", "auto", "cpu")
    with pytest.raises(EngineError, match="exported in f32 and cannot run in bf16; use precision 'auto', or export"):
        make_engine(artefact, "auto", "bf16", "cpu")
    assert make_engine(artefact, "onnx", "f32", "cpu").precision == "f32"


def test_a_graph_that_the_runtime_cannot_read_is_named(tiny_artefacts, tmp_path):
    artefact = replace(tiny_artefacts("onnx", None), path=tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtefactError, match=r"cannot load .*model.onnx \(.*export the model again"):
        make_engine(artefact, "auto", "auto", "cpu")


def test_threads_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("ROADSEG_THREADS", raising=False)
    assert thread_count() is None
    monkeypatch.setenv("ROADSEG_THREADS", "3")
    assert thread_count() == 3
    for wrong in ("0", "two", "-1", "1.5", "²"):
        monkeypatch.setenv("ROADSEG_THREADS", wrong)
        with pytest.raises(EngineError, match=f"ROADSEG_THREADS is '{wrong}'; set it to a whole number from 1"):
            thread_count()


def test_the_licence_of_an_artefacts_weights_is_told(tiny_artefacts, caplog, monkeypatch):
    monkeypatch.setattr("roadseg.inference.licence._told", set())
    tell_licence(tiny_artefacts("onnx", 64))
    assert "weights: for tests only; code: Apache-2.0" in caplog.text


def test_unknown_formats_and_precisions_are_named(tiny_models, tmp_path):
    with pytest.raises(EngineError, match="no format 'tflite'; known: onnx, openvino, tensorrt, torch"):
        export_model(tiny_models[64], "tflite", "auto", tmp_path / "out")
    for kind, writer in WRITERS.items():
        with pytest.raises(
            EngineError, match=f"format '{kind}' has no precision 'f64'; use {', '.join(writer.precisions)}"
        ):
            export_model(tiny_models[64], kind, "f64", tmp_path / "out")


@pytest.mark.slow
def test_the_bundled_model_agrees_with_torch_where_it_was_trained(real_data, tmp_path):
    """One frame that it was not trained on."""
    image = sorted((real_data / "camvid" / "val").iterdir())[0]
    export_model(
        read_model_file(model_path("roadseg-nano")),
        "onnx",
        "f32",
        tmp_path / "out",
    )
    found = roadseg.load_predictor(tmp_path / "out", device="cpu")(image).mask
    assert (found == roadseg.load_predictor("roadseg-nano", device="cpu")(image).mask).mean() >= 0.9999

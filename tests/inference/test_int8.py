"""int8: what is quantised, what is found to hurt, and what is kept."""

import re

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("openvino")
pytest.importorskip("nncf")

import openvino as ov
from openvino import opset13

from roadseg.export_commands import int8_text
from roadseg.inference.artefact import ArtefactFacts, seal
from roadseg.inference.export import int8
from roadseg.inference.export.calibration import Calibration
from roadseg.inference.export.graph import compose
from roadseg.inference.export.int8 import Quality, quantise
from roadseg.inference.export.openvino import convert, save
from roadseg.inference.export.scoring import Scores
from roadseg.inference.export.verify import VerificationFrames
from roadseg.inference.openvino_engine import OpenVinoEngine
from roadseg.inference.torch_engine import TorchEngine
from roadseg.label_sets import LabelSets

RNG = np.random.default_rng(0)


def pictures(count, height=64, width=96):
    coarse = RNG.integers(0, 256, (count, height // 8, width // 8, 3))
    return list(coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8))


def chain(levels):
    """Pixels through one 1x1 convolution after another to the logits, each with a quantiser of so many levels."""
    image = opset13.parameter([1, -1, -1, 3], np.uint8, name="image")
    image.output(0).set_names({"image"})
    value = opset13.transpose(opset13.convert(image, np.float32), opset13.constant(np.array([0, 3, 1, 2], np.int64)))
    rng = np.random.default_rng(1)
    for i, count in enumerate(levels):
        quantised = opset13.fake_quantize(value, *(np.float32(limit) for limit in (-600, 600, -600, 600)), count)
        kernel = opset13.constant(np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)[:, :, None, None])
        value = opset13.convolution(quantised, kernel, [1, 1], [0, 0], [0, 0], [1, 1], name=f"layer {i}")
    value.output(0).set_names({"logits"})
    best = opset13.topk(value, opset13.constant(np.int64(1)), 1, "max", "value")
    mask = opset13.convert(opset13.squeeze(best.output(1), opset13.constant(np.array([1], np.int64))), np.uint8)
    mask.output(0).set_names({"mask"})
    return ov.Model([value, mask], [image])


def test_layers_are_ranked_by_what_they_cost():
    """The fewer levels, the more it hurts: the order is known."""
    every = chain([200, 12, 60])
    exact = int8._given_back(every, int8._quantised_layers(every))
    layers = int8._quantised_layers(every)
    assert layers == ["layer 0", "layer 1", "layer 2"]
    assert not int8._quantised_layers(exact)
    ranked = int8._ranked(exact, every, layers, pictures(2), int8._Runner(None))
    assert [one.layer for one in ranked] == ["layer 1", "layer 2", "layer 0"]
    assert 1 > ranked[0].error_share > 0.8 > 0.2 > ranked[1].error_share > 0.01 > abs(ranked[2].error_share)
    assert int8._quantised_layers(every) == layers, "ranking works on copies"


def test_the_fewest_layers_are_kept_with_which_it_is_good_enough():
    every = chain([65000, 7, 9, 65000])
    exact = int8._given_back(every, int8._quantised_layers(every))
    frames = VerificationFrames("squares", pictures(3))
    runner = int8._Runner(None)
    judge = int8._Judge(exact, frames, runner)
    kept = int8._choose(exact, every, int8._quantised_layers(every), judge, runner)
    assert sorted(one.layer for one in kept) == ["layer 1", "layer 2"]
    assert judge.accepts(judge.quality(int8._given_back(every, ["layer 1", "layer 2"])))
    assert not judge.accepts(judge.quality(int8._given_back(every, [kept[0].layer])))
    assert judge.accepts(judge.quality(chain([65000] * 4))), "nothing is looked for where nothing hurts"


def test_a_network_that_does_not_bear_int8_keeps_half_and_says_so(caplog):
    every = chain([3, 3, 3, 3])
    exact = int8._given_back(every, int8._quantised_layers(every))
    frames = VerificationFrames("squares", pictures(2))
    runner = int8._Runner(None)
    judge = int8._Judge(exact, frames, runner)
    kept = int8._choose(exact, every, int8._quantised_layers(every), judge, runner)
    assert len(kept) == 2
    assert not judge.accepts(judge.quality(int8._given_back(every, [one.layer for one in kept])))
    assert "2 of 4 layers kept in float32 is still not good enough" in caplog.text


@pytest.mark.parametrize(
    ("miou", "disagreement", "good"),
    [(0.496, 0.5, True), (0.494, 0.0, False), (None, 0.02, True), (None, 0.021, False)],
)
def test_labels_decide_where_there_are_any(miou, disagreement, good):
    def scores(value):
        return None if value is None else Scores(value, {}, {})

    reference = Quality(0.0, scores(None if miou is None else 0.5))
    assert int8._is_good(Quality(disagreement, scores(miou)), reference) is good


def test_scores_are_those_of_the_masks(tiny_models):
    taxonomy = tiny_models[None].header.taxonomy
    truth = np.repeat(np.arange(2, dtype=np.uint8), 32)[:, None].repeat(64, 1)
    frames = VerificationFrames("bands", [np.zeros((64, 64, 3), np.uint8)], [truth], LabelSets(taxonomy))
    wrong = truth.copy()
    wrong[:16] = 1  # half of class 0: IoU 1/2, and of class 1: 2/3

    class Given:
        def masks(self, network, images):
            return [network]

    judge = int8._Judge(truth, frames, Given())
    assert judge.reference.scores.miou == 1.0
    assert judge.quality(wrong).scores.miou == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert judge.quality(wrong).disagreement == 0.25


@pytest.fixture
def quantisers(monkeypatch):
    """Stands in for NNCF, which takes long: chains of layers, and what is not kept."""
    asked = []

    def quantised(network, images, runner, kept):
        asked.append(list(kept))
        return int8._given_back(chain([65000, 7, 65000, 65000]), kept)

    monkeypatch.setattr(int8, "_quantised", quantised)
    monkeypatch.setattr(int8, "compress_quantize_weights_transformation", lambda network: None)
    return asked


def test_what_was_kept_and_why_is_told(quantisers):
    every = chain([65000, 7, 65000, 65000])
    exact = int8._given_back(every, int8._quantised_layers(every))
    network, found = quantise(exact, Calibration(pictures(2), VerificationFrames("others", pictures(3))), None)
    assert quantisers == [[], ["layer 1"]] and int8._quantised_layers(network) == ["layer 0", "layer 2", "layer 3"]
    (kept,) = found["kept"]
    assert kept["layer"] == "layer 1" and kept["error_share"] > 0.99
    chosen_on = found["chosen_on"]
    assert (chosen_on["source"], chosen_on["frames"], found["calibration_frames"]) == ("others", 3, 2)
    assert chosen_on["int8_everywhere"]["disagreement"] > int8.MAX_DISAGREEMENT >= chosen_on["int8"]["disagreement"]
    text = int8_text(found)
    assert "int8: 1 of 4 layers stay in float32, by 3 frames of others that are not among those above:" in text
    assert re.search(r"\n  layer 1: makes (99\.\d|100\.0)% of the logits' squared error$", text)


def test_that_nothing_was_kept_is_told_with_both_scores():
    scores = [{"disagreement": share, "scores": {"miou": miou}} for share, miou in ((0.0, 0.5), (0.004, 0.49))]
    chosen_on = {"source": "mine", "frames": 2, "float32": scores[0], "int8_everywhere": scores[1], "int8": scores[1]}
    assert int8_text({"layers": 9, "kept": [], "chosen_on": chosen_on}) == (
        "int8: all 9 layers; by 2 frames of mine that are not among those above none has to stay in float32: "
        "mIoU 0.4900, in float32 0.5000, and 0.40% of the pixels change"
    )


def test_the_search_can_be_left_out(quantisers, monkeypatch):
    monkeypatch.setattr(int8._Runner, "masks", None)  # nothing is run
    network, found = quantise(chain([3] * 4), Calibration(pictures(2), keep_layers=False), None)
    assert quantisers == [[]] and len(int8._quantised_layers(network)) == 4
    assert (found["kept"], found["chosen_on"], found["layers"]) == ([], None, 4)
    assert int8_text(found) == "int8: 4 layers; none was looked for that should stay in float32"


@pytest.mark.slow
def test_a_quantised_network_is_smaller_and_says_nearly_the_same(tiny_models, tiny_artefacts, tmp_path):
    images = pictures(6)
    network, found = quantise(
        convert(compose(tiny_artefacts.onnx_network, 64, conditional=False)), Calibration(images), 64
    )
    save(network, tmp_path, "{}", "int8")
    assert found["calibration_frames"] == 6 and 0 <= len(found["kept"]) < found["layers"] and found["layers"] > 10
    kinds = [node.get_element_type().to_string() for node in network.get_ops() if node.get_type_name() == "Constant"]
    without_weights = 2 * 5  # products of activations: two in each of the five blocks' attention
    assert kinds.count("i8") >= found["layers"] - without_weights - len(found["kept"])
    float32 = tiny_artefacts("openvino", 64).file("model.bin").stat().st_size
    assert (tmp_path / "model.bin").stat().st_size < float32
    facts = ArtefactFacts("openvino", "int8", tiny_models[64].header, "0" * 64, details={"inference_precision": "f32"})
    engine = OpenVinoEngine(seal(tmp_path, facts), "cpu", threads=1)
    for image in pictures(2, 80, 112):
        ours, exact = (one.run(image[None], ("mask",))["mask"] for one in (engine, torch_engine(tiny_models[64])))
        assert (ours == exact).mean() > 0.85


def torch_engine(model):
    return TorchEngine(model, "f32", "cpu")

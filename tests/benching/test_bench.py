"""The benchmark itself: what it runs, what it makes of what fails, and what it counts."""

import json
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from roadseg.benching import bench
from roadseg.benching.bench import run_bench
from roadseg.benching.ceilings import LINKS
from roadseg.benching.combinations import combine
from roadseg.benching.report import report_dict
from roadseg.benching.results import Memory, Network, Settings
from roadseg.errors import ConfigError, EngineError, ModelFileError
from roadseg.inference.predictor import load_predictor
from tests.benching.conftest import FakeEngine

QUICK = Settings(repeats=3, warm_ups=1, pause_s=0, matmul_side=0, memory=False)
SIZE = (8, 16)


def combinations(model_file, engines, sizes=(SIZE,), batches=(1,), precisions=("f32",)):
    return combine([str(model_file)], engines, precisions, sizes, batches, "cpu")


def test_combinations_are_every_one_once_in_order(model_file):
    model = str(model_file)
    made = combine([model], ["torch", "onnx", "torch"], ["f32", "bf16"], [(8, 8), (4, 4)], [1, 3], "cpu")
    assert len(made) == len(set(made)) == 2 * 2 * 2 * 2
    assert [(c.runner.engine, c.runner.precision, c.size, c.batch) for c in made[:3]] == [
        ("torch", "f32", (8, 8), 1),
        ("torch", "f32", (8, 8), 3),
        ("torch", "f32", (4, 4), 1),
    ]


def test_a_model_file_is_measured_in_every_engine_unless_some_are_named(model_file):
    engines = [c.runner.engine for c in combine([str(model_file)], [], ["auto"], [SIZE], [1])]
    assert {"torch", "onnx", "openvino"} <= set(engines) and "auto" not in engines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"engines": ["abacus"]}, "no engine 'abacus'; known: auto, "),
        ({"precisions": ["f8"]}, "no precision 'f8'; known: auto, f32"),
        ({"sizes": [(0, 0)]}, "size is 0x0; use sides from 1 to 16384 px"),
        ({"sizes": [(8, 16385)]}, "size is 8x16385"),
        ({"batches": [0]}, "batch is 0; use 1 to 1024 images"),
        ({"batches": [10**6]}, "batch is 1000000"),
        ({"models": []}, "no model to measure"),
        ({"sizes": []}, "no size to measure"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(model_file, change, message):
    asked = {"models": [str(model_file)], "engines": [], "precisions": ["f32"], "sizes": [SIZE], "batches": [1]}
    with pytest.raises(ConfigError, match=message):
        combine(**{**asked, **change})


def test_models_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match="gone.safetensors"):
        combine([str(tmp_path / "gone.safetensors")], [], ["f32"], [SIZE], [1])
    with pytest.raises(ModelFileError, match="no bundled model 'roadsg-nano'"):
        combine(["roadsg-nano"], [], ["f32"], [SIZE], [1])
    with pytest.raises(ModelFileError, match=r"is no exported model: there is no artefact\.json"):
        combine([str(tmp_path)], [], ["f32"], [SIZE], [1])


def test_what_is_not_installed_is_a_row_with_its_reason_and_the_rest_is_measured(model_file, engines):
    engines["torch"] = FakeEngine("torch")
    report = run_bench(combinations(model_file, ["onnx", "torch"]), QUICK)
    absent, measured = report.rows
    assert absent.unavailable == "the onnx engine is not installed" and absent.spread is None
    assert (absent.engine, absent.precision) == ("onnx", "f32")
    assert measured.unavailable is None and measured.spread.repeats == 3


@pytest.mark.parametrize("fails_at", [1, 2, 4])
def test_an_engine_that_fails_at_any_time_is_a_row_and_does_not_stop_the_rest(model_file, engines, fails_at):
    """While it is warmed, compared, or timed."""
    engines.update(torch=FakeEngine("torch"), onnx=FakeEngine("onnx", fails_at=fails_at))
    failed, measured = run_bench(combinations(model_file, ["onnx", "torch"]), QUICK).rows
    assert failed.unavailable == "MemoryError: bad allocation"
    assert failed.spread is None and failed.images_per_s is None
    assert len(engines["onnx"].runs) == fails_at  # it is not asked again
    assert measured.unavailable is None and measured.spread.repeats == 3


def test_nothing_that_runs_is_a_report_too(model_file, engines):
    report = run_bench(combinations(model_file, ["onnx"]), replace(QUICK, matmul_side=16))
    assert [row.unavailable is not None for row in report.rows] == [True] and report.ceilings == ()


def test_only_masks_are_asked_for_of_images_of_each_size_and_batch(model_file, engines):
    engines["torch"] = FakeEngine("torch")
    run_bench(combinations(model_file, ["torch"], sizes=[SIZE, (4, 4)], batches=[1, 2]), QUICK)
    assert set(engines["torch"].runs) == {((batch, *size, 3), ("mask",)) for size in (SIZE, (4, 4)) for batch in (1, 2)}


def test_each_size_has_an_engine_of_its_own_so_that_none_compiles_while_it_is_timed(model_file, engines, monkeypatch):
    opened = []

    def open_runner(runner):
        opened.append(SimpleNamespace(engine=FakeEngine("torch"), header=None, digest="d"))
        return opened[-1]

    monkeypatch.setattr(bench, "open_runner", open_runner)
    monkeypatch.setattr(bench, "_network", lambda predictor, size: (Network(size, None, None), []))
    sizes = [(8, 8 * width) for width in range(1, 7)]
    run_bench(combinations(model_file, ["torch"], sizes=sizes, batches=[1, 2]), QUICK)
    shapes = [{shape[1:3] for shape, _ in found.engine.runs} for found in opened]
    assert shapes == [{size} for size in sizes]


def test_agreement_is_the_share_of_pixels_so_that_a_fast_wrong_engine_is_seen(model_file, engines):
    engines.update(torch=FakeEngine("torch"), onnx=FakeEngine("onnx", wrong_rows=2))
    right, wrong = run_bench(combinations(model_file, ["torch", "onnx"], batches=[2]), QUICK).rows
    assert right.agreement == 1.0
    assert wrong.agreement == 1 - 2 / 16  # two of the 2 x 8 rows of a batch


def test_throughput_ceiling_and_share_are_those_of_hand_computation(model_file, engines, monkeypatch):
    """With times that are known: a run takes 0.5 s, the chain of products 0.25 s."""
    engines["torch"] = FakeEngine("torch")
    monkeypatch.setattr(bench, "interleaved_times", lambda runs, repeats, **_: [[0.5] * repeats, [0.25] * repeats])
    asked = combinations(model_file, ["torch"], batches=[4])
    report = run_bench(asked, replace(QUICK, matmul_side=16))
    (row,), (ceiling,) = report.rows, report.ceilings
    assert row.images_per_s == 8.0
    assert ceiling.gflops == pytest.approx(LINKS * 2 * 16**3 / 0.25 / 1e9)
    assert row.ceiling == ceiling.gflops
    assert row.ceiling_share == pytest.approx((4 * 2 * 8 * 16 / 0.5) / (LINKS * 2 * 16**3 / 0.25))


def test_an_engine_without_products_has_no_ceiling_and_says_why(model_file, engines):
    engines["torch"] = FakeEngine("torch", precision="int8")
    (row,) = run_bench(combinations(model_file, ["torch"]), replace(QUICK, matmul_side=16)).rows
    assert row.spread is not None and row.ceiling is None and row.ceiling_share is None
    assert row.notes == ("no ceiling: no int8 matrix products are measured in torch; known: f32, bf16, f16",)


def test_each_combination_has_memory_of_its_own_or_the_reason_of_its_process(model_file, engines, monkeypatch):
    engines["torch"] = FakeEngine("torch")
    number = count(100)

    def probe(combination):
        if combination.batch == 2:
            raise EngineError("its process was ended by signal 4")
        return Memory(next(number), 90, 10, None, 0.1, 0.2)

    monkeypatch.setattr(bench, "probe_apart", probe)
    monkeypatch.setattr(bench.memory, "can_measure", lambda: True)
    asked = combinations(model_file, ["torch"], batches=[1, 2, 3])
    rows = run_bench(asked, replace(QUICK, memory=True)).rows
    assert [row.memory and row.memory.peak_mib for row in rows] == [100, None, 101]
    assert rows[1].unavailable == "its process was ended by signal 4" and rows[1].spread is None
    assert rows[0].spread and rows[2].spread


def test_where_memory_cannot_be_measured_the_rest_is(model_file, engines, monkeypatch):
    engines["torch"] = FakeEngine("torch")
    monkeypatch.setattr(bench.memory, "can_measure", lambda: False)
    (row,) = run_bench(combinations(model_file, ["torch"]), replace(QUICK, memory=True)).rows
    assert row.memory is None and row.spread is not None and "Linux only" in row.notes[0]


def test_a_real_run_with_torch(model_file):
    """Two precisions and batches of a tiny network, with everything but processes."""
    asked = combinations(model_file, ["torch"], sizes=[(32, 64)], batches=[1, 2], precisions=["f32", "bf16"])
    document = json.loads(json.dumps(report_dict(run_bench(asked, replace(QUICK, matmul_side=32)))))
    predictor = load_predictor(model_file, engine="torch", device="cpu")
    from roadseg.models.complexity import count_macs

    with torch.device("meta"):
        network = bench_network()
    for row in document["rows"]:
        assert row["unavailable"] is None and row["seconds"]["median_s"] > 0
        assert row["model_digest"] == predictor.digest
        assert row["working_size"] == [32, 64]
        assert row["macs"] == count_macs(network, (32, 64))
        expected = 2 * row["macs"] * row["batch"] / row["seconds"]["median_s"] / 1e9 / row["ceiling_gflops"]
        assert row["ceiling_share"] == pytest.approx(expected)
    by_precision = {(row["precision"], row["batch"]): row["agreement"] for row in document["rows"]}
    assert by_precision["f32", 1] == by_precision["f32", 2] == 1.0
    assert 0.5 < by_precision["bf16", 1] < 1.0  # it did run in another precision
    assert {(c["engine"], c["precision"]) for c in document["ceilings"]} == {("torch", "f32"), ("torch", "bf16")}


def bench_network():
    from roadseg import build_model

    return build_model("twins_svt_nano", "linear_concat", 11, width=32)


def test_the_pictures_are_scenes_of_any_size():
    from roadseg.benching.work import scenes

    batch = scenes((20, 30), 2)
    assert batch.shape == (2, 20, 30, 3) and batch.dtype == np.uint8
    assert not np.array_equal(batch[0], batch[1]) and batch.std() > 10
    assert np.array_equal(batch, scenes((20, 30), 2))


def test_pictures_larger_than_scenes_are_drawn_are_enlarged(monkeypatch):
    from roadseg.benching import work

    monkeypatch.setattr(work, "_LARGEST_SCENE", (16, 24))
    assert work.scenes((32, 20), 1).shape == (1, 32, 20, 3)

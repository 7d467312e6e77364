"""Changing the model while it answers."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import jpeg, mask_of, png, rgb, scene
from service_models import (
    ADMIN_KEY,
    ask,
    open_shifted,
    shifted,
    swapping,
    unharmed,
    wait_until_idle,
    write_model,
)
from service_running import eventually, running

from roadseg.inference.package import read_model_file, write_model_file
from roadseg.inference.predictor import load_predictor

HEAD = "decoder.head.weight"
"""Of the network in `model_file`: its classes' weights, which turned around give each class another's."""


@pytest.fixture
def swap(tmp_path):
    with swapping(tmp_path) as started:
        yield started


def test_another_model_answers_and_the_one_before_is_kept(swap):
    assert ask(swap) == 0
    answer = swap.change(1, digest=swap.digests[1].upper())
    assert answer.status_code == 200
    assert answer.json() == swap.state()
    state = answer.json()
    assert [(m["role"], m["name"], m["digest"]) for m in state["models"]] == [
        ("active", "model_1", swap.digests[1]),
        ("previous", "model_0", swap.digests[0]),
    ]
    assert state["loading"] is None
    last = state["last_attempt"]
    assert (last["trigger"], last["model"], last["outcome"], last["detail"]) == (
        "request",
        "model_1",
        "succeeded",
        None,
    )
    assert ask(swap) == 1


def test_going_back_and_undoing_that(swap):
    assert_problem(swap.roll_back(), 409, "no-previous-model", "no model to go back to")
    swap.change(1)
    assert [m["name"] for m in swap.roll_back().json()["models"]] == ["model_0", "model_1"]
    assert ask(swap) == 0
    assert swap.roll_back().json()["last_attempt"]["trigger"] == "rollback"
    assert ask(swap) == 1


def test_asking_for_the_model_that_answers_changes_nothing(swap):
    swap.change(1)
    before = swap.slot.active
    assert swap.change(1).json()["last_attempt"]["outcome"] == "unchanged"
    assert swap.slot.active is before
    assert swap.slot.previous.name == "model_0"


def test_asking_for_the_one_that_is_kept_does_not_load_it_again(swap):
    swap.change(1)
    kept = swap.slot.previous
    assert swap.change(0).status_code == 200
    assert swap.slot.active is kept
    assert ask(swap) == 0


def test_a_bundled_model_goes_by_its_name(swap, monkeypatch, tmp_path):
    from roadseg.inference import bundled

    weights = tmp_path / "weights"
    weights.mkdir()
    digest = write_model(weights / "roadseg-nano.safetensors", 2)
    monkeypatch.setattr(bundled, "WEIGHTS", weights)
    (active, _) = swap.change("roadseg-nano").json()["models"]
    assert (active["name"], active["digest"]) == ("roadseg-nano", digest)


class Gate:
    """Opens models, but not before it is told to."""

    def __init__(self):
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, path):
        self.begun.set()
        assert self.open.wait(30)
        return open_shifted(path)


def test_one_change_at_a_time_and_everything_goes_on_meanwhile(tmp_path):
    gate = Gate()
    with swapping(tmp_path, opened=gate) as swap:
        answer = swap.change(1, headers={"Prefer": "wait=1, respond-async"})
        assert answer.status_code == 202
        assert answer.headers["Location"] == "/v1/models"
        assert answer.headers["Preference-Applied"] == "respond-async"
        loading = answer.json()["loading"]
        assert (loading["trigger"], loading["model"], loading["outcome"]) == ("request", "model_1", None)
        assert gate.begun.wait(30)
        for refused in (swap.change(2), swap.roll_back()):
            assert_problem(refused, 409, "swap-in-progress", "loading 'model_1'", "one is done at a time")
            assert int(refused.headers["Retry-After"]) > 0
        assert swap.loader.reload() is None
        assert swap.client.get("/readyz").status_code == 200
        assert swap.state()["loading"] == loading
        assert ask(swap) == 0
        gate.open.set()
        state = wait_until_idle(swap)
        assert state["last_attempt"]["outcome"] == "succeeded"
        assert state["last_attempt"]["began"] == loading["began"]
        assert ask(swap) == 1


def test_a_failure_that_nobody_waits_for_is_found_afterwards(swap):
    assert swap.change(1, headers={"Prefer": "respond-async"}, digest="0" * 64).status_code == 202
    last = wait_until_idle(swap)["last_attempt"]
    assert last["outcome"] == "failed"
    assert "0" * 64 in last["detail"]
    unharmed(swap)


def test_a_client_that_does_not_wait_stops_nothing(tmp_path):
    gate = Gate()
    with swapping(tmp_path, opened=gate) as swap:
        with pytest.raises(httpx.ReadTimeout):
            swap.client.post("/v1/models", json={"model": "model_1.safetensors"}, timeout=0.3)
        gate.open.set()
        wait_until_idle(swap)
        assert ask(swap) == 1


def test_requests_that_came_before_keep_their_model(swap):
    engine = swap.slot.active.predictor.engine
    eventually(lambda: engine.calls == 1, "the warm-up")
    engine.gate.clear()
    engine.entered.clear()
    with ThreadPoolExecutor(2) as others:
        at_work = others.submit(ask, swap)
        assert engine.entered.wait(30)
        waiting = others.submit(ask, swap, scene(50, 30))
        eventually(lambda: swap.service.pipeline.batcher.waiting == 1, "the second")
        assert swap.change(1).status_code == 200
        engine.gate.set()
        assert (at_work.result(), waiting.result()) == (0, 0)
    assert ask(swap) == 1


def test_nothing_is_lost_and_no_answer_is_mixed_under_load(swap):
    """Eight clients, ten changes: every answer is the one of the model that it names."""
    done = threading.Event()
    answers = []

    def post(number):
        data = jpeg(scene(20 + number, 60 - number))
        expected = mask_of(rgb(data))
        client = httpx.Client(base_url=swap.client.base_url, headers=swap.client.headers, timeout=60, trust_env=False)
        with client:
            while not done.is_set():
                answer = client.post("/segment", content=data)
                shift = swap.digests.index(answer.headers["X-Roadseg-Model-Digest"])
                np.testing.assert_array_equal(mask_in(answer), shifted(expected, shift))
                assert answer.headers["X-Roadseg-Model"] == f"model_{shift}"
                assert client.get("/readyz").status_code == 200
                answers.append(shift)
        return True

    with ThreadPoolExecutor(8) as clients:
        posting = [clients.submit(post, number) for number in range(8)]
        try:
            eventually(lambda: len(answers) >= 8, "answers of the first model")
            for turn in range(10):
                before = len(answers)
                change = swap.roll_back() if turn % 5 == 4 else swap.change((turn + 1) % 3)
                assert change.status_code == 200, change.text
                eventually(lambda before=before: len(answers) >= before + 8, "answers between two changes")
        finally:
            done.set()
        assert all(request.result() for request in posting)
    assert set(answers) == {0, 1, 2}
    eventually(lambda: swap.service.admission.accepted == 0, "the places")


def test_the_model_before_the_one_before_is_let_go(swap):
    engines = [weakref.ref(swap.slot.active.predictor.engine)]
    for model in (1, 2):
        assert ask(swap) == model - 1
        assert swap.change(model).status_code == 200
        engines.append(weakref.ref(swap.slot.active.predictor.engine))

    def alive():
        gc.collect()
        return [engine() is not None for engine in engines]

    eventually(lambda: alive() == [False, True, True], "the first model's end")
    swap.change("model_2.safetensors")
    assert alive() == [False, True, True]


def test_a_model_that_failed_is_let_go(tmp_path):
    failed = []

    def opened(path):
        predictor = open_shifted(path)
        predictor.engine.failure = RuntimeError("never works")
        failed.append(weakref.ref(predictor.engine))
        return predictor

    with swapping(tmp_path, opened=opened) as swap:
        assert_problem(swap.change(1), 422, "model-unusable")

        def gone():
            gc.collect()
            return failed[0]() is None

        eventually(gone, "the failed model's end")


def test_it_is_warmed_up_at_the_sizes_that_came_last(swap):
    for size in ((24, 40), (50, 30), (24, 40), (20, 20)):
        ask(swap, scene(*size))
    swap.change(1)
    assert swap.slot.active.predictor.engine.shapes == [(1, 20, 20), (1, 24, 40), (1, 50, 30)]


def test_the_metrics_tell_changes(swap):
    swap.change(1)
    swap.change(1)
    swap.change(2, digest="0" * 64)
    swap.roll_back()
    text = swap.client.get("/metrics").text
    for trigger, outcome in (
        ("start", "succeeded"),
        ("request", "succeeded"),
        ("request", "unchanged"),
        ("request", "failed"),
        ("rollback", "succeeded"),
    ):
        assert f'roadseg_model_changes_total{{outcome="{outcome}",trigger="{trigger}"}} 1.0\n' in text
    infos = [line for line in text.splitlines() if line.startswith("roadseg_model_info{")]
    assert len(infos) == 2
    (active,) = (line for line in infos if 'role="active"' in line)
    assert f'digest="{swap.digests[0]}"' in active


def test_a_start_that_failed_is_put_right_by_another_model(tmp_path):
    with swapping(tmp_path) as swap:
        place = swap.slot
        place._models = (None, None)
        place.fail("damaged")
        for path in ("/readyz", "/v1/models"):
            assert_problem(swap.client.get(path), 503, "model-not-ready", "damaged")
        assert swap.change(9, headers={"Prefer": "respond-async"}).json()["models"] == []
        eventually(lambda: swap.loader.loading is None, "the failure of what is not there")
        assert swap.change(1).status_code == 200
        assert swap.client.get("/readyz").status_code == 200
        assert ask(swap) == 1


def test_real_models_take_each_others_place(model_file, tmp_path):
    """What is loaded by default, with the settings' engine, when no test puts anything in its place."""
    models = tmp_path / "models"
    models.mkdir()
    file = read_model_file(model_file)
    tensors = {name: tensor[::-1].copy() if name == HEAD else tensor for name, tensor in file.tensors.items()}
    digest = write_model_file(models / "turned.safetensors", file.header, tensors)
    expected = [
        load_predictor(path, engine="torch", device="cpu") for path in (model_file, models / "turned.safetensors")
    ]
    keys = tmp_path / "keys"
    keys.write_text(f"boss:admin:{ADMIN_KEY}\n")
    keys.chmod(0o600)
    settings = {"model": str(model_file), "models_dir": str(models), "engine": "torch", "device": "cpu"}
    with running(
        lambda: load_predictor(model_file, engine="torch", device="cpu"), api_keys_file=str(keys), **settings
    ) as s:
        s.client.headers["X-API-Key"] = ADMIN_KEY
        data = png(scene(70, 110))
        masks = [mask_in(s.client.post("/segment", content=data))]
        answer = s.client.post("/v1/models", json={"model": "turned.safetensors", "digest": digest})
        assert answer.status_code == 200, answer.text
        assert [(m["name"], m["engine"]) for m in answer.json()["models"]] == [("turned", "torch"), ("nano", "torch")]
        masks.append(mask_in(s.client.post("/segment", content=data)))
    for mask, predictor in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask, predictor(data).mask)
    assert (masks[0] != masks[1]).any()

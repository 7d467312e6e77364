"""A service whose network works on several images side by side."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from service_corpus import opened, png, scene
from service_running import running

import roadseg_service.app
from roadseg.inference.engines import THREADS_VARIABLE
from roadseg.inference.predictor import load_predictor
from roadseg_service.app import MOST_STREAMS, create_app
from roadseg_service.settings import ServiceSettings


@pytest.mark.parametrize(
    ("cores", "setting", "expected"), [(1, None, 1), (3, None, 3), (64, None, MOST_STREAMS), (2, 7, 7)]
)
def test_there_is_a_stream_for_each_core_unless_the_settings_say(monkeypatch, cores, setting, expected):
    asked = {}

    def load(model, **options):
        asked.update(options)
        raise RuntimeError("enough is known")

    monkeypatch.setattr(roadseg_service.app, "load_predictor", load)
    monkeypatch.setattr(roadseg_service.app, "usable_cores", lambda: cores)
    app = create_app(ServiceSettings(model="roadseg-nano", streams=setting))
    with pytest.raises(RuntimeError, match="enough is known"):
        app.state.service.loader._load()
    assert asked["streams"] == expected


def test_each_answer_of_two_streams_is_that_of_one(tiny_artefacts, monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, "2")
    path = tiny_artefacts("openvino", 64).path
    alone = load_predictor(path, device="cpu")
    images = [scene(60 + 20 * (i % 3), 80, seed=i) for i in range(24)]
    with running(lambda: load_predictor(path, device="cpu", streams=2)) as service:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda image: service.client.post("/segment", content=png(image)), images))
        assert len(service.pipeline.batcher._threads) == 2
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(np.asarray(opened(answer.content)), alone(image).mask)

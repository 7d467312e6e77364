"""Many images: how many are under way and held, that one failure is one, and that nothing is left behind."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from roadseg.client import AsyncClient, Client
from roadseg.errors import ConfigError, CorruptImageError, DataError, ServiceAccessError, ServiceError
from roadseg.images import decode_image
from roadseg.inference.result import encode_png
from tests.client.scripted import BOTH, PIXELS, FakeClock, Script, answer, problem, scripted, scripted_async


class Counted:
    """Answers after a moment, and notes how many requests were here at once."""

    def __init__(self):
        self.now = self.most = self.total = 0
        self._lock = threading.Lock()
        self._answers = Script(answer())

    def __call__(self, request):
        if request.url.path == "/v1/models":
            return self._answers(request)
        with self._lock:
            self.total += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        with self._lock:
            self.now -= 1
        return self._answers(request)

    async def later(self, request):
        if request.url.path == "/v1/models":
            return self._answers(request)
        self.total += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
        finally:
            self.now -= 1
        return self._answers(request)


class Endless(Iterator):
    """Images without end, and how many were taken."""

    taken = 0

    def __next__(self):  # noqa: D105
        self.taken += 1
        return PIXELS


def async_client(handler):
    return AsyncClient("http://service.test", transport=httpx.MockTransport(handler))


def test_so_many_are_under_way_at_once_and_no_more():
    counted = Counted()
    done = list(scripted(counted).segment_many([PIXELS] * 20, concurrency=4))
    assert len(done) == 20 and counted.most == 4


def test_images_are_taken_as_the_work_goes_on():
    images = Endless()
    found = scripted(Counted()).segment_many(images, concurrency=3)
    assert len(list(itertools.islice(found, 30))) == 30
    time.sleep(0.05)  # a slow reader holds the rest up
    assert images.taken <= 30 + 3
    found.close()


def test_after_the_reader_has_gone_no_thread_and_no_request_is_left():
    counted, images = Counted(), Endless()
    found = scripted(counted).segment_many(images, concurrency=3)
    next(found)
    found.close()
    total = counted.total
    time.sleep(0.05)
    assert counted.total == total == images.taken and counted.now == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("roadseg-client")]


def test_a_wait_for_a_retry_ends_when_the_reader_goes():
    refused = problem(503, **{"Retry-After": "60"})
    busy = threading.Event()

    def first_good(request):
        if request.url.path == "/segment" and b"second" in request.content:
            busy.set()
            return refused
        return Script(answer())(request)

    data = encode_png(Image.fromarray(PIXELS))
    with Client("http://service.test", transport=httpx.MockTransport(first_good)) as client:
        found = client.segment_many([data, data + b"second"], concurrency=2)
        next(found)
        assert busy.wait(10)
        begun = time.monotonic()
        found.close()
        assert time.monotonic() - begun < 10


def test_what_fails_alone_does_not_stop_the_rest(tmp_path):
    damaged, missing = b"\xff\xd8\xff\xe0 not much of a JPEG", tmp_path / "gone.png"
    found = list(scripted(Script(answer())).segment_many([PIXELS, damaged, missing, PIXELS], concurrency=1))
    assert [type(outcome).__name__ for _, outcome in found][::3] == ["SegmentationResult"] * 2
    assert isinstance(found[1][1], CorruptImageError) and found[1][0] is damaged
    assert isinstance(found[2][1], DataError) and found[2][0] == missing


def test_a_refused_image_is_given_with_its_error():
    script = Script(answer(), problem(500, "prediction-failed", "NaN"), answer())
    outcomes = [outcome for _, outcome in scripted(script).segment_many([PIXELS] * 3, concurrency=1)]
    assert isinstance(outcomes[1], ServiceError) and outcomes[1].type == "prediction-failed"
    np.testing.assert_array_equal(outcomes[0].mask, outcomes[2].mask)


def test_a_wrong_key_ends_it_at_once():
    script = Script(problem(401, "unauthorised"))
    with pytest.raises(ServiceAccessError):
        list(scripted(script).segment_many(Endless(), concurrency=2))
    assert len(script.requests) <= 4


def test_folders_are_searched_through(tmp_path):
    for name in ("b.png", "deep/a.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / name, "PNG")
    found = scripted(Script(answer())).segment_many([tmp_path], concurrency=2)
    assert {path.relative_to(tmp_path).as_posix() for path, _ in found} == {"b.png", "deep/a.png"}


@BOTH
@pytest.mark.parametrize("kind", [str, Path])
def test_the_path_of_one_folder_is_one_source_and_its_letters_are_none(client_of, kind, tmp_path, monkeypatch):
    for name in ("ab/right.png", "a/wrong.png", "b/wrong.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(PIXELS).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found = list(client_of(Script(answer())).segment_many(kind("ab"), concurrency=2))
    assert [path for path, _ in found] == [Path("ab/right.png")]


@BOTH
@pytest.mark.parametrize("kind", ["bytes", "array", "PIL image", "decoded image"])
def test_one_image_need_not_be_in_a_list(client_of, kind):
    data = encode_png(Image.fromarray(PIXELS))
    image = {
        "bytes": data,
        "array": PIXELS,
        "PIL image": Image.fromarray(PIXELS),
        "decoded image": decode_image(data),
    }[kind]
    ((given, result),) = client_of(Script(answer())).segment_many(image)
    assert given is image
    np.testing.assert_array_equal(result.image, PIXELS)


def test_a_stack_of_arrays_is_several_images():
    found = list(scripted(Script(answer())).segment_many(np.stack([PIXELS, PIXELS + 1])))
    assert sorted(int(result.image[0, 0, 0]) for _, result in found) == [0, 1]


@pytest.mark.parametrize("client_of", [scripted, lambda script: scripted_async(script)._client])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        *(({"concurrency": value}, "concurrency is") for value in (0, -1, 2.5, True)),
        *(({"min_confidence": value}, "min_confidence is .* share from 0 to 1") for value in ("high", -0.1, 60)),
        ({"min_confidence": float("nan")}, "min_confidence is nan"),
        ({"orientation": "sideways"}, "orientation is 'sideways'"),
        ({"classes": "road"}, "give a list"),
    ],
)
def test_what_cannot_work_is_refused_at_the_call_and_no_image_is_taken(client_of, wrong, words):
    images = Endless()
    with pytest.raises(ConfigError, match=words):
        client_of(Script(answer())).segment_many(images, **wrong)
    with pytest.raises(TypeError, match="confidenc'"):
        client_of(Script(answer())).segment_many(images, confidenc=True)
    assert images.taken == 0


@BOTH
def test_a_confidence_that_is_no_number_is_refused_by_its_name(client_of):
    script = Script(answer())
    with pytest.raises(ConfigError, match="min_confidence is 'high'"):
        client_of(script).segment(PIXELS, min_confidence="high")
    assert not script.requests


@BOTH
def test_a_closed_client_says_so_and_sends_nothing(client_of, tmp_path):
    script, images = Script(answer()), Endless()
    client = client_of(script)
    client.close()
    (tmp_path / "drive").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "drive" / "a.png")
    for call in (
        lambda: client.segment(PIXELS),
        lambda: list(client.segment_many(images, concurrency=2)),
        lambda: client.segment_folder(tmp_path / "drive", tmp_path / "masks"),
    ):
        with pytest.raises(ConfigError, match="was closed"):
            call()
    assert not script.requests and images.taken <= 4


def test_threads_may_share_a_client():
    script = Script(answer())
    client = scripted(script)
    results = []

    def work():
        results.extend(client.segment(PIXELS).model_digest for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["d1"] * 80
    assert script.paths().count("/v1/models") <= 8


def test_asyncio_does_the_same_with_the_same_bounds():
    counted, images = Counted(), Endless()

    async def run():
        async with async_client(counted.later) as client:
            found, outcomes = client.segment_many(images, concurrency=3), []
            async for _, outcome in found:
                outcomes.append(outcome)
                if len(outcomes) == 20:
                    break
            await found.aclose()
            return outcomes

    outcomes = asyncio.run(run())
    assert [outcome.model_digest for outcome in outcomes] == ["d1"] * 20
    assert counted.most == 3 and counted.now == 0 and images.taken <= 20 + 3


def test_asyncio_retries_by_the_same_rules():
    clock = FakeClock()
    script = Script(problem(429, **{"Retry-After": "4"}), problem(504), answer())

    async def run():
        transport = httpx.MockTransport(script)
        async with AsyncClient("http://x.test", sleep=clock.asleep, clock=clock.of(1.0), transport=transport) as client:
            return await client.segment(PIXELS)

    assert asyncio.run(run()).taxonomy.name == "five"
    assert clock.slept == [4.5, 1.0]


def test_asyncio_gives_errors_beside_results_and_ends_for_a_wrong_key():
    async def run(script, images):
        async with async_client(script) as client:
            return [outcome async for _, outcome in client.segment_many(images, concurrency=1)]

    outcomes = asyncio.run(run(Script(answer()), [PIXELS, b"no image", PIXELS]))
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
    with pytest.raises(ServiceAccessError):
        asyncio.run(run(Script(problem(403, "forbidden")), Endless()))


def test_a_cancelled_task_leaves_no_request_behind():
    counted = Counted()

    async def run():
        async with async_client(counted.later) as client:

            async def consume():
                async for _ in client.segment_many(Endless(), concurrency=4):
                    pass

            task = asyncio.create_task(consume())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return counted.now

    assert asyncio.run(run()) == 0

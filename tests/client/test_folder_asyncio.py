"""Folders by the client for asyncio: its bounds, and what a cancelled task leaves."""

import asyncio
import json
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from roadseg.client import AsyncClient
from roadseg.errors import ServiceAccessError
from tests.client.scripted import Script, answer, models, problem

COUNT = 12


@pytest.fixture
def drive(tmp_path):
    (tmp_path / "drive").mkdir()
    for i in range(COUNT):
        Image.fromarray(np.full((2, 3, 3), i, np.uint8)).save(tmp_path / "drive" / f"{i:02d}.png")
    return tmp_path / "drive"


class Held:
    """Answers when the gate is open, and notes how many requests were here at once, and in which thread."""

    def __init__(self):
        self.now = self.most = self.total = 0
        self.threads = set()
        self.gate = asyncio.Event()
        self._listed, self._answers = Script(listed=[models()]), Script(answer())

    async def __call__(self, request):
        self.threads.add(threading.current_thread())
        if request.url.path == "/v1/models":
            return self._listed(request)
        self.total += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
            await asyncio.sleep(0.002)
            return self._answers(request)
        finally:
            self.now -= 1

    async def has(self, count):
        async with asyncio.timeout(20):
            while self.total < count:
                await asyncio.sleep(0.005)


def client_of(handler, **options):
    return AsyncClient("http://service.test", transport=httpx.MockTransport(handler), **options)


def recorded(output):
    rows = [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]
    assert not any("error" in row for row in rows)
    return sorted(row["mask"] for row in rows[1:])


def written(output):
    return sorted(path.name for path in output.glob("*.png"))


def test_so_many_requests_are_under_way_and_the_loop_sends_them(drive, tmp_path):
    async def run():
        service = Held()
        async with client_of(service) as client:
            task = asyncio.create_task(client.segment_folder(drive, tmp_path / "masks", concurrency=3))
            await service.has(3)
            await asyncio.sleep(0.05)
            assert service.total == 3 and not task.done()  # and the loop is free for this meanwhile
            service.gate.set()
            return service, await task

    service, summary = asyncio.run(run())
    assert (summary.written, summary.failed) == (COUNT, 0)
    assert (service.most, service.threads) == (3, {threading.main_thread()})
    assert recorded(tmp_path / "masks") == written(tmp_path / "masks") == [f"{i:02d}.png" for i in range(COUNT)]


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancelled_task_finishes_and_records_what_is_under_way_and_begins_nothing(drive, tmp_path, times):
    output = tmp_path / "masks"

    async def run():
        service = Held()
        async with client_of(service) as client:
            task = asyncio.create_task(client.segment_folder(drive, output, concurrency=3))
            await service.has(3)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0.02)
            assert not task.done()
            service.gate.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (service.total, service.now) == (3, 0)
            summary = await client.segment_folder(drive, output, resume=True)
            return service.total, summary

    total, summary = asyncio.run(run())
    assert (summary.written, summary.skipped, summary.failed) == (COUNT - 3, 3, 0)
    assert total == COUNT, "no image twice, none left out"
    assert recorded(output) == written(output) == [f"{i:02d}.png" for i in range(COUNT)]


def test_a_wait_for_a_retry_ends_when_the_task_is_cancelled_and_is_no_failure(drive, tmp_path):
    refused = asyncio.Event()

    def full(request):
        if request.url.path == "/v1/models":
            return Script(listed=[models()])(request)
        refused.set()
        return problem(503, **{"Retry-After": "60"})

    async def run():
        async with client_of(full) as client:
            task = asyncio.create_task(client.segment_folder(drive, tmp_path / "masks", concurrency=2))
            await refused.wait()
            begun = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - begun

    assert asyncio.run(run()) < 20
    assert recorded(tmp_path / "masks") == []


def test_a_time_limit_of_asyncio_ends_it(drive, tmp_path):
    async def run():
        service = Held()
        async with client_of(service) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3) as limit:
                    task = asyncio.create_task(opened_late(service, limit))
                    await client.segment_folder(drive, tmp_path / "masks", concurrency=2)
            await task
            return service.total

    async def opened_late(service, limit):
        await service.has(2)
        while not limit.expired():
            await asyncio.sleep(0.01)
        service.gate.set()

    assert asyncio.run(run()) == 2
    assert len(recorded(tmp_path / "masks")) == 2


def test_more_folders_at_once_than_asyncio_has_threads_all_end(drive, tmp_path):
    """Each run holds a thread while its images need others: were those of one pool, nobody would go on."""

    async def run():
        service = Held()
        service.gate.set()
        async with client_of(service) as client:
            runs = (client.segment_folder(drive / "00.png", tmp_path / f"masks{i}", concurrency=1) for i in range(40))
            async with asyncio.timeout(60):
                return await asyncio.gather(*runs)

    assert [summary.written for summary in asyncio.run(run())] == [1] * 40


def test_what_ends_a_run_is_raised_and_no_thread_is_left(drive, tmp_path):
    async def run():
        def closed(request):
            if request.url.path == "/v1/models":
                return Script(listed=[models()])(request)
            return problem(401, "key-required")

        async with client_of(closed) as client:
            with pytest.raises(ServiceAccessError):
                await client.segment_folder(drive, tmp_path / "masks", concurrency=2)

    asyncio.run(run())
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("roadseg-client") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)

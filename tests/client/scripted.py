"""A service in a few lines, whose answers a test writes, and a clock that only moves when somebody sleeps."""

import asyncio
import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image

from roadseg.client import AsyncClient, Client
from roadseg.client.retries import Clock

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
MASK = np.array([[0, 1, 1], [2, 255, 0]], np.uint8)


def models(digest="d1", name="five", version=3, count=3):
    said = {"group": "surface", "left_right": None, "refines": None}
    classes = [{"id": i, "name": f"{name}_{i}", "colour": [i, version, 9], **said} for i in range(count)]
    taxonomy = {"name": name, "version": version, "family": None, "classes": classes}
    return {"models": [{"name": "nano", "digest": digest, "taxonomy": taxonomy}]}


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def answer(mask=MASK, digest="d1", taxonomy="five/3", **headers):
    told = {"X-Roadseg-Model-Digest": digest, "X-Roadseg-Taxonomy": taxonomy, "X-Roadseg-Orientation": "displayed"}
    return httpx.Response(200, headers={**told, "Content-Type": "image/png", **headers}, content=png(mask))


def problem(status, slug="queue-full", detail="64 requests are held", **headers):
    body = {
        "type": f"urn:roadseg:problem:{slug}",
        "title": "t",
        "status": status,
        "detail": detail,
        "instance": "urn:i",
    }
    told = {"Content-Type": "application/problem+json"}
    return httpx.Response(status, headers={**told, **headers}, content=json.dumps(body).encode())


class Script:
    """Answers /segment by a list, whose last entry is for all that follow, and /v1/models by another."""

    def __init__(self, *segment, listed=None):
        self.requests = []
        self._segment = list(segment)
        self._listed = list(listed or [models()])

    def __call__(self, request):
        self.requests.append(request)
        if request.url.path.endswith("/v1/models"):
            return httpx.Response(200, json=_next(self._listed))
        found = _next(self._segment)
        if isinstance(found, Exception):
            raise found
        # A response is read once: each request gets a fresh one.
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    def paths(self):
        return [request.url.path for request in self.requests]


class FakeClock:
    """Time that passes by sleeping alone."""

    def __init__(self):
        self.slept = []
        self.time = 1000.0

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.time += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)

    def of(self, share):
        return Clock(lambda: self.time, lambda: self.time, lambda: share)


def scripted(script, clock=None, share=1.0, **options):
    """A client of a script; waits take the largest random share, unless told otherwise."""
    clock = clock or FakeClock()
    transport = httpx.MockTransport(script)
    return Client("http://service.test", sleep=clock.sleep, clock=clock.of(share), transport=transport, **options)


class Awaited:
    """An AsyncClient, whose calls are waited for: what is tested of the one is tested of the other."""

    def __init__(self, client):
        self._client = client

    def segment_many(self, *args, **options):
        async def run():
            return [found async for found in self._client.segment_many(*args, **options)]

        return iter(asyncio.run(run()))

    def segment_folder(self, *args, **options):
        async def run():
            return await self._client.segment_folder(*args, **options)

        return asyncio.run(run())

    def segment(self, *args, **options):
        async def run():
            return await self._client.segment(*args, **options)

        return asyncio.run(run())

    def close(self):
        asyncio.run(self._client.close())


def scripted_async(script, clock=None, share=1.0, **options):
    """As `scripted`, by the client for asyncio."""
    clock = clock or FakeClock()
    transport = httpx.MockTransport(script)
    client = AsyncClient(
        "http://service.test", sleep=clock.asleep, clock=clock.of(share), transport=transport, **options
    )
    return Awaited(client)


BOTH = pytest.mark.parametrize("client_of", [scripted, scripted_async], ids=["threads", "asyncio"])


def _next(entries):
    return entries.pop(0) if len(entries) > 1 else entries[0]

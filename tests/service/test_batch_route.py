"""POST /segment/batch: every file its own answer or problem, whatever the others are."""

import email
import email.policy
import io
import json
import re
import socket
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from service_asserts import assert_problem, mask_in
from service_corpus import animation, jpeg, mask_of, pixel_bomb, png, rgb, scene, webp
from service_running import DIGEST, eventually, running
from service_scored import ScoredEngine, scored_predictor

from roadseg_service.answers.file_names import answer_name, shown_name

PICTURES = [scene(24, 40), scene(30, 20), scene(24, 40, seed=1)]


def parts(*files, field="files"):
    return [(field, (name, data, "application/octet-stream")) for name, data in files]


def send(client, *files, field="files", headers=None, **params):
    return client.post("/segment/batch", files=parts(*files, field=field), params=params, headers=headers)


def unpacked(response):
    """The manifest of a ZIP answer, and its other entries by name."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    names = archive.namelist()
    assert names[0] == "manifest.json" and len(set(names)) == len(names)
    manifest = json.loads(archive.read("manifest.json"))
    assert [item["index"] for item in manifest["items"]] == list(range(len(manifest["items"])))
    assert names[1:] == [item["file"] for item in manifest["items"] if "file" in item]
    return manifest, {name: archive.read(name) for name in names[1:]}


def mask_of_entry(data):
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode) == ("PNG", "P")
    return np.asarray(picture)


def slugs(manifest):
    return [item["problem"]["type"].rpartition(":")[2] if "problem" in item else None for item in manifest["items"]]


@pytest.mark.parametrize("field", ["files", "file"])
def test_masks_in_the_order_of_the_files(client, field):
    files = [("a.png", png(PICTURES[0])), ("b.jpg", jpeg(PICTURES[1])), ("c.webp", webp(PICTURES[2]))]
    response = send(client, *files, field=field)
    manifest, entries = unpacked(response)
    assert [item["name"] for item in manifest["items"]] == ["a.png", "b.jpg", "c.webp"]
    assert list(entries) == ["0000_a.png", "0001_b.png", "0002_c.png"]
    for data, (_, sent) in zip(entries.values(), files, strict=True):
        assert (mask_of_entry(data) == mask_of(rgb(sent))).all()
    assert manifest["model"] == {"name": "fake-nano", "digest": DIGEST}
    assert manifest["taxonomy"] == {"name": "five", "version": 3}
    assert response.headers["x-roadseg-model-digest"] == DIGEST
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["vary"] == "Accept"


def test_one_file_and_as_many_as_are_allowed(client):
    assert len(unpacked(send(client, ("a", png())))[1]) == 1
    files = [(f"{i}.png", png(scene(16 + i % 3, 20, seed=i))) for i in range(32)]
    _, entries = unpacked(send(client, *files))
    for (_, sent), data in zip(files, entries.values(), strict=True):
        assert (mask_of_entry(data) == mask_of(rgb(sent))).all()
    response = send(client, *files, ("one more", png()))
    assert_problem(response, 422, "invalid-upload", "33 fields", "at most 32 files (max_batch_files)", "-F files=@")


def test_a_broken_file_has_its_problem_and_the_others_their_masks(client):
    bad = [
        ("empty.png", b"", "invalid-upload"),
        ("page.jpg", b"<!doctype html>", "unsupported-image"),
        ("cut.png", png()[:-40], "corrupt-image"),
        ("bomb.png", pixel_bomb(5000), "image-too-large"),
        ("film.webp", animation("WEBP"), "unsupported-image"),
    ]
    files = [
        entry for i, (name, data, _) in enumerate(bad) for entry in ((name, data), (f"{i}.png", png(scene(seed=i))))
    ]
    manifest, entries = unpacked(send(client, *files))
    assert slugs(manifest) == [slug for _, _, expected in bad for slug in (expected, None)]
    assert [len(entries), len(manifest["items"])] == [5, 10]
    for i, data in enumerate(entries.values()):
        assert (mask_of_entry(data) == mask_of(scene(seed=i))).all()
    for item in manifest["items"][::2]:
        assert {"type", "title", "status", "detail", "instance"} <= set(item["problem"])
        assert "file" not in item
    assert "5000x5000" in manifest["items"][6]["problem"]["detail"]


def test_a_batch_of_which_nothing_can_be_segmented_says_so_file_by_file(client):
    manifest, entries = unpacked(send(client, ("a", b"x"), ("b", b"y")))
    assert slugs(manifest) == ["unsupported-image"] * 2
    assert entries == {}


def test_a_picture_that_the_model_fails_on_fails_alone():
    class Picky(ScoredEngine):
        def run(self, images, outputs, *, rescale=True):
            if (images == 77).all(axis=(1, 2, 3)).any():
                raise RuntimeError("poison")
            return super().run(images, outputs, rescale=rescale)

    poison = np.full((24, 40, 3), 77, np.uint8)
    pictures = [scene(seed=i) for i in range(8)]
    pictures[3] = poison
    with running(lambda: scored_predictor(Picky()), max_batch=8, batch_wait_ms=100) as service:
        manifest, entries = unpacked(send(service.client, *((f"{i}.png", png(p)) for i, p in enumerate(pictures))))
    assert slugs(manifest) == [None] * 3 + ["prediction-failed"] + [None] * 4
    for data, picture in zip(entries.values(), (p for p in pictures if p is not poison), strict=True):
        assert (mask_of_entry(data) == mask_of(picture)).all()


def test_files_of_one_size_run_together():
    engine = ScoredEngine()
    with running(lambda: scored_predictor(engine), max_batch=8, batch_wait_ms=500) as service:
        before = engine.calls
        unpacked(send(service.client, *((f"{i}.png", png(scene(seed=i))) for i in range(8))))
        assert engine.calls - before < 8


@pytest.fixture(scope="module")
def scored():
    with running(scored_predictor) as service:
        yield service.client


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        ({"classes": "1,3", "min_confidence": "0.4"}, {}),
        ({"format": "json"}, {"Accept": "application/json"}),
        ({"geometry": "polygons", "tolerance_px": "0"}, {"Accept": "application/json"}),
        ({"confidence": "true", "format": "json"}, {"Accept": "application/json"}),
        ({"render": "overlay", "opacity": "0.3"}, {}),
        ({"render": "overlay", "format": "webp", "orientation": "stored"}, {"Accept": "image/webp"}),
    ],
)
def test_each_answer_is_that_of_a_request_of_its_own(scored, params, headers):
    files = [("a.png", png(PICTURES[0])), ("b.jpg", jpeg(PICTURES[1]))]
    manifest, entries = unpacked(send(scored, *files, **params))
    alone = {name: value for name, value in params.items() if name != "format"}
    for item, (_, data) in zip(manifest["items"], files, strict=True):
        single = scored.post("/segment", content=data, params=alone, headers=headers)
        assert single.status_code == 200, single.text
        assert entries[item["file"]] == single.content
        assert item["media_type"] == single.headers["content-type"]
        assert item["etag"] == single.headers["etag"]
        assert str(item["exif_orientation"]) == single.headers["x-roadseg-exif-orientation"]


def test_json_entries_decode(client):
    _, entries = unpacked(send(client, ("a.b.png", png()), format="json"))
    (answer,) = (json.loads(data) for name, data in entries.items() if name == "0000_a_b.json")
    rebuilt = sum(entry["id"] * coco_mask.decode(entry["rle"]).astype(int) for entry in answer["classes"])
    assert (rebuilt == mask_of(scene())).all()


@pytest.mark.parametrize("accept", ["multipart/mixed", "multipart/*", "application/zip;q=0.5, multipart/mixed"])
def test_multipart_answer(client, accept):
    files = [("a.png", png(PICTURES[0])), ("bad.png", b"x"), ("größe.png", png(PICTURES[1]))]
    response = send(client, *files, headers={"Accept": accept})
    kind = response.headers["content-type"]
    assert kind.startswith("multipart/mixed; boundary=")
    message = email.message_from_bytes(
        f"Content-Type: {kind}\r\n\r\n".encode() + response.content, policy=email.policy.HTTP
    )
    manifest, first, bad, last = message.iter_parts()
    assert manifest.get_content_type() == "application/json"
    items = json.loads(manifest.get_payload(decode=True))["items"]
    assert [item.get("file") for item in items] == ["0000_a.png", None, "0002_größe.png"]
    for part, picture in ((first, PICTURES[0]), (last, PICTURES[1])):
        body = part.get_payload(decode=True)
        assert part.get_content_type() == "image/png"
        assert int(part["content-length"]) == len(body)
        assert (mask_of_entry(body) == mask_of(picture)).all()
    assert first["content-disposition"] == 'attachment; filename="0000_a.png"'
    assert last.get_filename() == items[2]["file"]
    (disposition,) = re.findall(rb"Content-Disposition: attachment; (.*2_.*)\r\n", response.content)
    extended, plain = disposition.decode("ascii").split("; ")
    assert plain == 'filename="0002_gr__e.png"'
    assert extended.startswith("filename*=UTF-8''")
    assert unquote(extended.removeprefix("filename*=UTF-8''")) == items[2]["file"]
    assert bad.get_content_type() == "application/problem+json"
    assert json.loads(bad.get_payload(decode=True)) == items[1]["problem"]


def test_server_timing_counts_files_that_wait_side_by_side_once():
    with running(max_batch=1) as service, ThreadPoolExecutor(1) as other:
        service.engine.gate.clear()
        began = time.monotonic()
        files = [(f"{i}.png", png(scene(16 + i, 20))) for i in range(6)]
        sent = other.submit(send, service.client, *files)
        eventually(lambda: service.admission.accepted == 6, "six places")
        time.sleep(0.3)
        service.engine.gate.set()
        response = sent.result()
        elapsed_ms = 1000 * (time.monotonic() - began)
    unpacked(response)
    timings = dict(re.findall(r"(\w+);dur=([\d.]+)", response.headers["Server-Timing"]))
    assert set(timings) == {"upload", "decode", "queue", "network", "encode", "pack"}
    assert 250 < float(timings["queue"]) < elapsed_ms  # five of them waited that long, each


# Names


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("../../etc/passwd", "0007_passwd.png"),
        ("..\\..\\windows\\win.ini", "0007_win.png"),
        ("/abs/olute.jpg", "0007_olute.png"),
        ("C:\\con", "0007_con.png"),
        ("", "0007_file.png"),
        ("..", "0007_file.png"),
        ("...png", "0007_file.png"),
        ("a\x00b\r\nc.png", "0007_abc.png"),
        ("qu\"ote'; rm -rf.jpg", "0007_qu_ote___rm_-rf.png"),
        ("ünïcödé 図.jpeg", "0007_ünïcödé_図.png"),
        ("\ufffd\ufffd.png", "0007_file.png"),
        ("x" * 300 + ".png", f"0007_{'x' * 100}.png"),
        ("\u202egnp.exe", "0007_gnp.png"),
    ],
)
def test_names_cannot_harm(given, expected):
    name = answer_name(7, given, "image/png")
    assert name == expected
    assert len(name.encode()) < 128


def test_long_names_beyond_ascii_are_cut_between_characters():
    name = answer_name(0, "図" * 300, "application/json")
    assert name == "0000_" + "図" * 33 + ".json"
    assert len(shown_name("図" * 300)) == 200


def test_names_in_a_request(client):
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="files"'
        + name
        + b"\r\nContent-Type: image/png\r\n\r\n"
        + png()
        + b"\r\n"
        for name in (
            b'; filename="same.png"',
            b'; filename="same.png"',
            b'; filename="\xff\xfe/\xfa.png"',
            b"; filename*=UTF-8''gr%C3%B6%C3%9Fe.png",
            b"",
            b'; filename="../../evil.png"',
        )
    )
    response = client.post(
        "/segment/batch", content=body + b"--b--\r\n", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    manifest, entries = unpacked(response)
    assert list(entries) == [
        "0000_same.png",
        "0001_same.png",
        "0002_file.png",
        "0003_größe.png",
        "0004_file.png",
        "0005_evil.png",
    ]
    assert [item["name"] for item in manifest["items"]] == [
        "same.png",
        "same.png",
        "\ufffd.png",
        "größe.png",
        "",
        "evil.png",
    ]


# What is refused as a whole


def test_what_holds_no_files(client):
    response = client.post("/segment/batch", files=[("image", ("a.png", png()))])
    assert_problem(response, 422, "invalid-upload", "field 'image'", "'files'", "-F files=@")
    response = client.post("/segment/batch", files=[("files", (None, b"text"))])
    assert_problem(response, 422, "invalid-upload", "holds text")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert_problem(
        client.post("/segment/batch", content=b"--b--\r\n", headers=headers), 422, "invalid-upload", "no fields"
    )
    assert_problem(
        client.post("/segment/batch", content=b"x", headers=headers), 422, "invalid-upload", "multipart body"
    )


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "text/plain", ""])
def test_a_body_that_is_no_form(client, kind):
    response = client.post("/segment/batch", content=png(), headers={"Content-Type": kind})
    assert_problem(response, 415, "unsupported-content-type", "form")
    assert "multipart/form-data" in response.headers["accept"]


def test_the_bound_on_the_body_is_for_all_files(client):
    response = send(client, *((f"{i}", png() + bytes(500_000)) for i in range(5)))
    assert_problem(response, 413, "body-too-large", "2000000")


@pytest.mark.parametrize("accept", ["image/png", "application/json", "application/zip;q=0"])
def test_nothing_acceptable(client, accept):
    response = send(client, ("a", png()), headers={"Accept": accept})
    assert_problem(response, 406, "not-acceptable", "application/zip or multipart/mixed")


@pytest.mark.parametrize(
    ("params", "fragment"),
    [
        ({"format": "webp"}, "format is 'webp': with the other parameters it can only be png or json"),
        ({"format": "png", "confidence": "true"}, "can only be json"),
        ({"format": "json", "render": "overlay"}, "can only be png or webp"),
        ({"format": "gif"}, "format is 'gif'"),
        ({"classes": "nope"}, "there is no class 'nope'"),
        ({"opacity": "0.5"}, "render=overlay"),
        ({"format": ["png", "png"]}, "given 2 times"),
        ({"format": "webp", "opacity": "2"}, "opacity is '2'; use a number from 0 to 1"),
        ({"format": "webp", "opacity": "2"}, "format is 'webp': with the other parameters"),
        ({"nonsense": "1"}, "no query parameter 'nonsense'"),
    ],
)
def test_wrong_parameters(client, params, fragment):
    assert_problem(send(client, ("a", png()), **params), 422, "invalid-parameter", fragment)


# Load


def test_memory_is_given_back_file_by_file():
    """Eight pictures that would not fit together; each waits for the memory of those before."""
    pixels = 200 * 200
    bound = 4_000_000 + 12 * pixels
    with running(scored_predictor, max_body_bytes=2_000_000, max_pixels=pixels, max_held_bytes=bound) as service:
        files = [(f"{i}.png", png(np.zeros((200, 200, 3), np.uint8))) for i in range(12)]
        assert 12 * 12 * pixels > bound
        manifest, _ = unpacked(send(service.client, *files))
        assert slugs(manifest) == [None] * 12
        assert service.admission.refused == {}  # a file that waits is not told to come back
        eventually(lambda: service.admission.held_bytes == 0, "the memory")
        assert (service.admission.accepted, service.admission.tickets) == (0, 0)


def test_a_batch_takes_a_place_for_each_file():
    with running(max_queued=4) as service, ThreadPoolExecutor(1) as other:
        service.engine.gate.clear()
        url = f"{service.client.base_url}/segment/batch"
        files = parts(*((f"{i}", png()) for i in range(3)))
        held = other.submit(httpx.post, url, files=files, timeout=60, trust_env=False)
        eventually(lambda: service.admission.accepted == 3, "three places")
        assert_problem(send(service.client, ("a", png()), ("b", png())), 429, "queue-full", "try again")
        service.engine.gate.set()
        assert len(unpacked(held.result())[1]) == 3
        eventually(lambda: service.admission.accepted == 0, "the places")
        # More files than places: they take all, and turns.
        assert len(unpacked(send(service.client, *((f"{i}", png()) for i in range(9))))[1]) == 9


def test_what_is_not_done_by_the_deadline_has_that_problem_and_the_rest_is_answered():
    release = threading.Event()

    class Slow(ScoredEngine):
        def run(self, images, outputs, *, rescale=True):
            assert not (images == 99).all() or release.wait(30)
            return super().run(images, outputs, rescale=rescale)

    files = [("first", png()), ("slow", png(np.full((30, 30, 3), 99, np.uint8))), ("after", png(scene(9, 9)))]
    with running(lambda: scored_predictor(Slow()), deadline_s=2, codec_threads=1) as service:  # one by one, in order
        try:
            manifest, entries = unpacked(send(service.client, *files))
        finally:
            release.set()
    assert slugs(manifest) == [None, "deadline-exceeded", "deadline-exceeded"]
    assert manifest["items"][1]["retry_after_s"] >= 1
    assert (mask_of_entry(entries["0000_first.png"]) == mask_of(scene())).all()


def test_a_client_that_leaves_cancels_its_files():
    engine = ScoredEngine()
    with running(lambda: scored_predictor(engine)) as service:
        engine.gate.clear()
        calls = engine.calls
        request = service.client.build_request(
            "POST", "/segment/batch", files=parts(*((str(i), png()) for i in range(6)))
        )
        body = request.read()
        head = f"POST /segment/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: {request.headers['content-type']}\r\n"
        leaving = socket.create_connection(("127.0.0.1", service.port))
        leaving.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: service.admission.accepted == 6, "six places")
        eventually(lambda: engine.calls > calls, "the first file")
        leaving.close()
        eventually(lambda: service.admission.accepted == 0, "their end")
        engine.gate.set()
        assert (mask_in(service.client.post("/segment", content=png())) == mask_of(scene())).all()
        assert engine.calls - calls <= 3  # what ran when it left, and the last request
        eventually(lambda: service.admission.held_bytes == 0, "the memory")

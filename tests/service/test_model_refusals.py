"""Changes of the model that are refused or fail: the model that answers stays."""

import os
import pickle
from dataclasses import replace

import httpx
import pytest
from service_asserts import assert_problem
from service_models import (
    ADMIN_KEY,
    USER_KEY,
    ask,
    open_shifted,
    swapping,
    unharmed,
    write_model,
)
from service_running import HEADER, TAXONOMY

from roadseg.errors import ConfigError
from roadseg.inference.artefact import ArtefactFacts, seal
from roadseg.taxonomy import RoadClass, Taxonomy
from roadseg_service.models.source import check_models_dir


@pytest.fixture
def swap(tmp_path):
    with swapping(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """For tests in which nothing changes."""
    with swapping(tmp_path_factory.mktemp("unchanged")) as started:
        yield started


def test_paths_that_lead_out_of_the_folder_are_all_answered_alike(swap, tmp_path):
    outside = tmp_path / "secret.safetensors"
    write_model(outside, 1)
    (swap.folder / "link.safetensors").symlink_to(outside)
    (swap.folder / "circle").symlink_to(swap.folder / "circle")
    (tmp_path / "models-of-others").mkdir()
    write_model(tmp_path / "models-of-others" / "x.safetensors", 1)
    names = [
        "../secret.safetensors",
        str(outside),
        "link.safetensors",
        "circle",
        "/etc/passwd",
        "../models-of-others/x.safetensors",
        "../not-there.safetensors",
        "not-there.safetensors",
        ".",
        "..",
        "/",
        "\0",
        "x" * 300,
        "file:///etc/passwd",
        "http://127.0.0.1:1/model.safetensors",
        "s3://bucket/model.safetensors",
    ]
    texts = set()
    for name in names:
        problem = assert_problem(swap.change(name), 422, "model-not-allowed", "in the folder of models")
        texts.add(problem["detail"].replace(name[:200], "NAME"))
    assert len(texts) == 1  # nobody learns what there is elsewhere
    unharmed(swap)


def test_paths_inside_may_be_written_in_any_way(swap):
    (swap.folder / "deep").mkdir()
    (swap.folder / "deep" / "current.safetensors").symlink_to("../model_1.safetensors")
    for name, expected in (
        ("deep/../model_1.safetensors", 1),
        (swap.folder / "model_2.safetensors", 2),
        ("deep/current.safetensors", 1),
    ):
        assert swap.change(name).status_code == 200, name
        assert swap.active() == expected
    assert swap.state()["models"][0]["name"] in {"current", "model_1"}  # the kept one goes by its first name


def test_without_a_folder_only_bundled_models_may_be_named(tmp_path):
    with swapping(tmp_path, models_dir=None) as swap:
        for name in ("model_1.safetensors", str(swap.folder / "model_1.safetensors")):
            assert_problem(swap.change(name), 422, "model-not-allowed", "bundled models only", "models_dir")
        assert ask(swap) == 0


class Bomb:
    """Ends the process that unpickles it."""

    def __reduce__(self):  # noqa: D105
        return exit, ("unpickled",)


@pytest.mark.parametrize("ending", [".ckpt", ".pt", ".pth", ".pkl", ".safetensors", ".onnx", ""])
def test_a_pickle_is_never_read(unchanged, ending):
    (unchanged.folder / f"bomb{ending}").write_bytes(pickle.dumps(Bomb()))
    assert_problem(unchanged.change(f"bomb{ending}"), 422, "model-unusable")
    assert ask(unchanged) == 0


def test_a_file_with_another_digest_is_refused(swap):
    problem = assert_problem(swap.change(1, digest="0" * 64), 409, "model-mismatch", swap.digests[1], "0" * 64)
    assert swap.state()["last_attempt"]["detail"] == problem["detail"]
    assert swap.state()["last_attempt"]["outcome"] == "failed"
    unharmed(swap)


def test_a_cut_off_file_is_refused(swap):
    whole = (swap.folder / "model_2.safetensors").read_bytes()
    (swap.folder / "model_2.safetensors").write_bytes(whole[: len(whole) // 2])
    assert_problem(swap.change(2), 422, "model-unusable", "cut off")
    unharmed(swap)


def test_a_pipe_in_the_folder_holds_nobody_up(swap):
    os.mkfifo(swap.folder / "pipe.safetensors")
    assert_problem(swap.change("pipe.safetensors"), 422, "model-unusable", "is no file but a pipe")
    unharmed(swap)


def test_what_everybody_may_read_tells_no_folders_of_this_machine(swap, caplog):
    path = swap.folder / "model_2.safetensors"
    path.write_bytes(path.read_bytes()[:30])
    answer = swap.change(path)
    assert_problem(answer, 422, "model-unusable", "model_2.safetensors is not a readable")
    assert str(path) in caplog.text
    last = swap.state()["last_attempt"]
    assert last["model"] == "model_2" and "model_2.safetensors" in last["detail"]
    swap.change(path, digest="0" * 64)
    swap.change("/srv/secret/model.safetensors")
    for text in (answer.text, swap.client.get("/v1/models").text, str(last)):
        assert str(swap.folder.parent) not in text and "/srv/" not in text


OTHER = Taxonomy("five", 4, TAXONOMY.classes)
RENAMED = Taxonomy("five", 3, (RoadClass("other", (0, 0, 0)), *TAXONOMY.classes[1:]))


@pytest.mark.parametrize("taxonomy", [OTHER, RENAMED])
def test_other_classes_only_where_they_are_meant(swap, taxonomy):
    swap.digests.append(write_model(swap.folder / "model_3.safetensors", 3, taxonomy))
    assert_problem(swap.change(3), 409, "model-mismatch", "five/3", f"five/{taxonomy.version}", "allow_taxonomy_change")
    assert swap.active() == 0
    assert swap.change(3, allow_taxonomy_change=True).status_code == 200
    assert swap.state()["models"][0]["taxonomy"]["version"] == taxonomy.version
    assert_problem(swap.change(1), 409, "model-mismatch")  # and back
    assert swap.roll_back().status_code == 200  # what answered before may answer again
    assert ask(swap) == 0


def test_an_exported_model_needs_its_digest(swap):
    folder = swap.folder / "exported"
    folder.mkdir()
    for file in ("model.xml", "model.bin"):
        (folder / file).write_bytes(b"x")
    header = replace(HEADER, provenance={"shift": 2})
    digest = seal(folder, ArtefactFacts("openvino", "f32", header, "0" * 64, model_name="city-v1.2")).digest
    assert_problem(swap.change("exported"), 422, "model-not-allowed", "digest", "artefact.json")
    assert swap.active() == 0
    assert swap.change("exported", digest=digest).status_code == 200
    active = swap.state()["models"][0]
    assert (active["digest"], active["name"]) == (digest, "city-v1.2")
    (folder / "model.bin").write_bytes(b"y")
    swap.change(1)
    swap.change(2)
    assert_problem(swap.change("exported", digest=digest), 422, "model-unusable", "model.bin")


@pytest.mark.parametrize(
    ("failure", "fragment"),
    [
        (RuntimeError("secret shape"), "RuntimeError; the server's log"),
        (RuntimeError("CUDA out of memory. secret"), "memory ran out"),
        (MemoryError("secret"), "memory ran out"),
    ],
)
@pytest.mark.parametrize("step", ["loading", "warming up"])
def test_a_model_that_fails_never_answers(tmp_path, caplog, failure, fragment, step):
    def opened(path):
        predictor = open_shifted(path)
        if "model_2" in path.name:
            if step == "loading":
                raise failure
            predictor.engine.failure = failure
        return predictor

    with swapping(tmp_path, opened=opened) as swap:
        answer = swap.change(2)
        assert_problem(answer, 422, "model-unusable", fragment)
        assert "secret" not in answer.text
        assert "secret" in caplog.text
        unharmed(swap)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    def opened(path):
        write_model(path, 4)  # another one, under the same name
        return open_shifted(path)

    with swapping(tmp_path, opened=opened) as swap:
        assert_problem(swap.change(1), 409, "model-mismatch", "changed while they were read")
        assert ask(swap) == 0


def test_only_an_admins_key_changes_the_model(swap):
    for headers, status in (
        ({"Authorization": f"Bearer {USER_KEY}"}, 403),
        ({"Authorization": "Bearer of-nobody-at-all"}, 401),
    ):
        assert swap.change(1, headers=headers).status_code == status
        assert swap.client.post("/v1/models/rollback", headers=headers).status_code == status
    url = f"{swap.client.base_url}/v1/models"
    assert httpx.post(url, json={"model": "model_1.safetensors"}, trust_env=False).status_code == 401
    assert swap.active() == 0
    assert swap.change(1, headers={"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "slug", "fragments"),
    [
        (
            b"{",
            422,
            "invalid-parameter",
            ("the body is not JSON (", 'send an object, such as {"model": "roadseg-nano"}'),
        ),
        (b"", 422, "invalid-parameter", ("the body is not JSON (EOF",)),
        (b"[]", 422, "invalid-parameter", ("the body is not a JSON object; send one, such as {",)),
        (b"\xff", 422, "invalid-parameter", ("the body is not JSON (",)),
        (b"{}", 422, "invalid-parameter", ("field 'model' is missing; give it: path below",)),
        (b'{"model": ""}', 422, "invalid-parameter", ("field model is ''; it is empty",)),
        (b'{"model": 5}', 422, "invalid-parameter", ("field model is '5'; use a text in quotes",)),
        (b'{"model": true}', 422, "invalid-parameter", ("field model is 'true'; use a text in quotes",)),
        (b'{"modell": "x", "model": "x"}', 422, "invalid-parameter", ("no field 'modell'; did you mean 'model'?",)),
        (b'{"model": "x", "digest": "abc"}', 422, "invalid-parameter", ("digest is 'abc'; use 64 hexadecimal digits",)),
        (b'{"model": "x", "digest": 7}', 422, "invalid-parameter", ("digest is '7'; use 64 hexadecimal digits",)),
        (b'{"model": "x", "force": true}', 422, "invalid-parameter", ("no field 'force'; known: model, digest",)),
        (
            b'{"model": "x", "allow_taxonomy_change": 7}',
            422,
            "invalid-parameter",
            ("allow_taxonomy_change is '7'; use true or false",),
        ),
        (b'{"model": "' + b"x" * 70_000 + b'"}', 413, "body-too-large", ("65536",)),
        (b"[" * 60_000, 422, "invalid-parameter", ()),
    ],
)
def test_bodies_that_say_nothing_are_told_so(unchanged, body, status, slug, fragments):
    answer = unchanged.client.post("/v1/models", content=body, headers={"Content-Type": "application/json"})
    problem = assert_problem(answer, status, slug, *fragments)
    assert "b'" not in problem["detail"] and "hould" not in problem["detail"]
    assert all(error["parameter"] and error["detail"] for error in problem.get("errors", []))
    assert unchanged.active() == 0


def test_a_body_that_is_no_json(unchanged):
    answer = unchanged.client.post("/v1/models", data={"model": "model_1.safetensors"})
    assert_problem(answer, 415, "unsupported-content-type", "application/json")


def test_no_change_while_draining(swap):
    swap.service.app.state.service.lifecycle.drain(1)
    for answer in (swap.change(1), swap.roll_back()):
        assert_problem(answer, 503, "draining")


def test_a_folder_of_models_that_is_not_there_ends_the_start(tmp_path):
    with pytest.raises(ConfigError, match=f"models_dir is '{tmp_path}/none', and there is no such folder"):
        check_models_dir(str(tmp_path / "none"))
    check_models_dir(str(tmp_path))
    check_models_dir(None)

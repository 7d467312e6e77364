"""Reading weights: files that cannot be used are named and never run, and the hub is asked only for names."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors
from safetensors.torch import save_file
from torch import nn

from roadseg.errors import ModelError
from roadseg.models.weights import read_weights


def reading_error(source):
    with pytest.raises(ModelError) as caught:
        read_weights(source)
    return str(caught.value)


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):  # noqa: D105
        return (Path.touch, (self.path,))


def test_an_arbitrary_pickle_is_refused_and_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    for path, save in (
        (tmp_path / "zip.pth", torch.save),
        (tmp_path / "plain.ckpt", lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))),
    ):
        save({"model": {"a": torch.ones(1)} if path.suffix == ".pth" else {}, "x": Payload(marker)}, path)
        message = reading_error(path)
        assert f"{path} was not loaded: it wants to run code" in message and "state_dict()" in message
        assert not marker.exists()
    with (tmp_path / "plain.ckpt").open("rb") as file:
        pickle.load(file)
    assert marker.exists()  # the payload is a real one


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    assert "'torch.nn.modules.linear.Linear'" in reading_error(tmp_path / "model.pt")


@pytest.mark.parametrize("kept", [4, 200, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_cut_off_file_is_named(tmp_path, suffix, kept):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"a": torch.randn(64, 64), "b": torch.randn(64)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    message = reading_error(path)
    assert message.startswith(f"{path} is not a readable {suffix} file (") and "cut off" in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"hello world\n", b"<!DOCTYPE html><html>", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_another_kind_of_file_is_named(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert str(path) in reading_error(path)


@pytest.mark.parametrize(
    "content",
    [{}, {"state_dict": {}}, {"epoch": 3}, [torch.ones(1)], torch.ones(1), {0: torch.ones(1)}, {"model": {"lr": 1.0}}],
)
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    assert f"{tmp_path / 'weights.pth'} holds no tensors by name" in reading_error(tmp_path / "weights.pth")


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "weights.pth")
    assert "holds no tensors" in reading_error(tmp_path / "weights.pth")


def test_an_empty_safetensors_file_is_refused(tmp_path):
    save_file({}, tmp_path / "weights.safetensors")
    assert "holds no tensors" in reading_error(tmp_path / "weights.safetensors")


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "empty.pth").touch()
    (tmp_path / "weights.onnx").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is a folder" in reading_error(tmp_path / "folder.pth")
    assert "is empty" in reading_error(tmp_path / "empty.pth")
    assert "ends in '.onnx'" in reading_error(tmp_path / "weights.onnx")
    assert "not a regular file" in reading_error(tmp_path / "pipe.pth")
    assert "weights.pth" in reading_error(tmp_path / ("x" * 300) / "weights.pth")


# The hub

RESPONSE = SimpleNamespace(headers={}, request=None)


@pytest.fixture
def hub(monkeypatch):
    """Stands for the hub: holds files, or raises; `calls` lists what was asked for."""
    state = SimpleNamespace(files={}, error=None, calls=[])

    def download(repository, file, *, revision=None, local_files_only=False):
        state.calls.append((repository, file, revision, local_files_only))
        if state.error is not None and not local_files_only:
            raise state.error
        if file not in state.files:
            kind = errors.LocalEntryNotFoundError if local_files_only else errors.RemoteEntryNotFoundError
            raise kind("no such file") if local_files_only else kind("404", response=RESPONSE)
        return str(state.files[file])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return state


@pytest.mark.parametrize(
    "path",
    [
        "weights.pth",
        "runs/weights.ckpt",
        "weights.SAFETENSORS",
        "./weights",
        "../a",
        "~/weights",
        "/a",
        "a/b/c",
        "a\\b",
    ],
)
def test_a_mistyped_path_is_not_asked_of_the_hub(hub, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    message = reading_error(path)
    assert message.startswith("no file of weights at ") and os.path.basename(path) in message
    assert hub.calls == []


def test_a_path_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pth")
    assert list(read_weights("~/weights.pth")) == ["a"]


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("twins_svt_small", "timm/twins_svt_small.in1k", None),
        ("twins_svt_small.in1k", "timm/twins_svt_small.in1k", None),
        ("timm/twins_svt_small.in1k", "timm/twins_svt_small.in1k", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("twins_svt_small.in1k@abc", "timm/twins_svt_small.in1k", "abc"),
    ],
)
def test_names_on_the_hub(hub, tmp_path, name, repository, revision):
    hub.files["model.safetensors"] = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert list(read_weights(name)) == ["a"]
    assert hub.calls == [(repository, "model.safetensors", revision, False)]


def test_pytorch_files_are_taken_where_there_is_no_safetensors(hub, tmp_path):
    hub.files["pytorch_model.bin"] = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert list(read_weights("org/name")) == ["a"]
    hub.error = errors.LocalEntryNotFoundError("offline")  # then from the cache, without waiting for the hub again
    assert list(read_weights("org/name")) == ["a"]
    assert hub.calls[-1] == ("org/name", "pytorch_model.bin", None, True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.LocalEntryNotFoundError("cannot find it locally"), "go online once"),
        (errors.OfflineModeIsEnabled("offline mode"), "go online once"),
        (errors.RepositoryNotFoundError("401", response=RESPONSE), "check its name"),
        (errors.GatedRepoError("403", response=RESPONSE), "ask for access at https://huggingface.co/org/name"),
        (errors.RevisionNotFoundError("404", response=RESPONSE), "behind the '@'"),
        (errors.HfHubHTTPError("503", response=RESPONSE), "go online once"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_an_unreachable_hub_says_what_to_do(hub, error, said):
    hub.error = error
    message = reading_error("org/name")
    assert said in message and type(error).__name__ in message
    assert "the weights 'org/name' could not be fetched" in message
    assert "give its path; or set pretrained to false" in message


def test_a_repository_without_weights_is_named(hub):
    assert "'org/name' on the Hugging Face hub has neither model.safetensors nor" in reading_error("org/name")


@pytest.mark.parametrize("name", ["twins_svt_smal.in1k", "twins_svt_small.in2k"])
def test_a_mistyped_timm_name_is_not_asked_of_the_hub(hub, name):
    message = reading_error(name)
    assert f"timm knows no weights '{name}'" in message and "twins_svt_small.in1k" in message
    assert hub.calls == []


@pytest.mark.parametrize("name", ["", "two words", "https://example.com", "org/", "a@b@c", "org/name\n"])
def test_what_is_no_name_is_refused(hub, name):
    assert "ends in" in reading_error(name)
    assert hub.calls == []


def test_the_hubs_own_client_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = reading_error("twins_svt_small.in1k")
    assert "HF_HUB_OFFLINE is set: unset it once" in message and str(tmp_path) in message
    cached = tmp_path / "models--timm--twins_svt_small.in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file({"a": torch.ones(1)}, cached / "snapshots" / ("0" * 40) / "model.safetensors")
    assert list(read_weights("twins_svt_small.in1k")) == ["a"]

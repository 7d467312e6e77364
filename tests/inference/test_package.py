"""Model files: what is in them, and every way in which one can be wrong."""

import hashlib
import json
import os
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy

from roadseg.errors import ModelFileError
from roadseg.inference.package import parse_architecture, read_model_file, write_model_file


def rewrite(path, target, *, header=None, tensors=None, key="roadseg"):
    """A copy with some of the header's JSON or of the weights changed."""
    model = read_model_file(path)
    document = {**json.loads(model.header.to_json()), **(header or {})}
    safetensors.numpy.save_file({**model.tensors, **(tensors or {})}, target, metadata={key: json.dumps(document)})
    return target


def test_reads_back_what_was_written(model_file, tmp_path):
    model = read_model_file(model_file)
    assert model.header.architecture.backbone == "twins_svt_nano" and model.header.architecture.options == {"width": 32}
    assert model.header.taxonomy.names[3] == "road" and model.header.short_side_px is None
    assert model.digest == hashlib.sha256(model_file.read_bytes()).hexdigest()
    digest = write_model_file(tmp_path / "again.safetensors", model.header, model.tensors)
    assert digest == model.digest, "the same model is the same file"


def test_the_header_is_one_key_of_sorted_json_that_needs_no_roadseg(model_file):
    data = model_file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert list(metadata) == ["roadseg"]
    document = json.loads(metadata["roadseg"])
    assert metadata["roadseg"] == json.dumps(document, sort_keys=True)
    assert document["format_version"] == 1 and document["normalisation"]["mean"] == [123.675, 116.28, 103.53]


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ModelFileError, match=r"no model file at .*gone.safetensors; make one with `roadseg package"):
        read_model_file(tmp_path / "gone.safetensors")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(
        ModelFileError, match="is a folder, perhaps an exported model; give the .safetensors file itself"
    ):
        read_model_file(tmp_path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(ModelFileError, match="pipe.safetensors is no file but a pipe"):
        read_model_file(tmp_path / "pipe.safetensors")


def test_only_the_ending_of_model_files_is_no_part_of_the_name(model_file, tmp_path):
    for name, expected in (("city-v1.2.safetensors", "city-v1.2"), ("city-v1.2", "city-v1.2")):
        assert read_model_file(shutil.copy(model_file, tmp_path / name)).name == expected


def test_weights_that_are_not_finite_are_never_read(model_file, tmp_path):
    path = rewrite(
        model_file, tmp_path / "x.safetensors", tensors={"decoder.head.bias": np.full(11, np.nan, np.float32)}
    )
    with pytest.raises(ModelFileError, match="x.safetensors: weight 'decoder.head.bias' holds NaN"):
        read_model_file(path)


@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt"])
def test_a_pickle_is_never_opened(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(
        ModelFileError, match=r"can run code when loaded; turn it into a model file first: `roadseg package"
    ):
        read_model_file(path)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_a_cut_off_file_is_refused(model_file, tmp_path, keep):
    data = model_file.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(keep if keep in (0, 5, 100) else keep * len(data))])
    with pytest.raises(ModelFileError, match="is not a readable .safetensors file .*copy it again"):
        read_model_file(path)


@pytest.mark.parametrize("name", ["README.md", "picture.png", "model"])
def test_another_kind_of_file_is_not_said_to_be_cut_off(tmp_path, name):
    (tmp_path / name).write_text("# A model\n\n" + "Read me. " * 100)
    with pytest.raises(
        ModelFileError, match=f"{name} is another kind of file; a model file ends in .safetensors: make"
    ):
        read_model_file(tmp_path / name)


def test_weights_of_another_program_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelFileError, match="holds weights but no roadseg header; make a model file with"):
        read_model_file(path)


def test_a_newer_format_is_refused(model_file, tmp_path):
    path = rewrite(model_file, tmp_path / "new.safetensors", header={"format_version": 99})
    with pytest.raises(ModelFileError, match="has format version 99; this roadseg reads version 1: update roadseg"):
        read_model_file(path)


@pytest.mark.parametrize(
    "header",
    [
        {"architecture": {}},
        {"taxonomy": {}},
        {"normalisation": {"mean": [1], "std": [1]}},
        {"inference": 3},
        {"weights_licence": 5},
        {"provenance": [1]},
        {"normalisation": {"mean": [10**400, 0, 0], "std": [1, 1, 1]}},
        {"format_version": "1"},
        {"format_version": True},
        {"architecture": {"backbone": "resnet18", "decoder": "fpn", "num_classes": "11", "options": {}}},
        {"inference": {"short_side_px": -4}},
        {"normalisation": {"mean": [1, 2, 3], "std": [1, 0, 1]}},
        {"normalisation": {"mean": [1, 2, 3], "std": [1, float("nan"), 1]}},
    ],
)
def test_a_damaged_header_is_refused(model_file, tmp_path, header):
    path = rewrite(model_file, tmp_path / "bad.safetensors", header=header)
    with pytest.raises(ModelFileError, match="has a damaged header .*; package it again"):
        read_model_file(path)


def test_weights_that_are_not_finite_are_never_written(model_file, tmp_path):
    model = read_model_file(model_file)
    name = next(iter(model.tensors))
    broken = {**model.tensors, name: np.full_like(model.tensors[name], np.nan)}
    with pytest.raises(ModelFileError, match="holds NaN or infinite values: the training diverged"):
        write_model_file(tmp_path / "x.safetensors", model.header, broken)
    assert list(tmp_path.iterdir()) == []


def test_another_file_ending_is_refused(model_file):
    model = read_model_file(model_file)
    with pytest.raises(ModelFileError, match="a model file ends in .safetensors; 'model.bin' does not"):
        write_model_file("model.bin", model.header, model.tensors)


def test_an_architecture_from_before_backbones_had_options_is_the_plain_one():
    data = {"backbone": "twins_svt_nano", "decoder": "linear_concat", "num_classes": 3, "options": {"width": 16}}
    assert parse_architecture(data).backbone_options == {}
    assert parse_architecture({**data, "backbone_options": {"padding": "mask"}}).backbone_options == {"padding": "mask"}
    with pytest.raises(TypeError, match="where a dict is expected"):
        parse_architecture({**data, "backbone_options": ["padding"]})

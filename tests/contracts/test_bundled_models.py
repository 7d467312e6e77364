"""What every bundled model promises: its file, its card, and that both reach whoever installs the package."""

import os
import re
import subprocess
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

import roadseg
from roadseg.data.synthetic import render_scene
from roadseg.inference.bundled import BUNDLED_MODELS, DEFAULT_MODEL, WEIGHTS, model_path
from roadseg.inference.package import UNSPECIFIED_LICENCE, ModelFile, read_model_file
from roadseg.inference.torch_engine import network_of

ROOT = Path(roadseg.__file__).parents[1]
TITLES = ("Intended use", "Data", "Licence", "Recipe", "Figures", "Known failures")
FILES = [f"{name}.{ending}" for name in BUNDLED_MODELS for ending in ("safetensors", "md")]


@pytest.fixture(scope="module", params=BUNDLED_MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name) -> ModelFile:
    return read_model_file(model_path(name))


@pytest.fixture(scope="module")
def parts(name) -> dict[str, str]:
    """The card's text by the title of its level-2 headings; what stands before them under ""."""
    pieces = re.split(r"^## +(.+?) *$", (WEIGHTS / f"{name}.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {"": pieces[0], **dict(zip(pieces[1::2], pieces[2::2], strict=True))}


def test_it_segments_a_scene_at_the_scenes_size(name, model):
    predictor = roadseg.load_predictor(name, device="cpu")
    result = predictor(render_scene(3, (96, 144)).image, confidence=True)
    assert result.mask.shape == (96, 144) and result.model_digest == model.digest
    assert result.mask.max() < len(predictor.taxonomy) and len(np.unique(result.mask)) > 1
    assert 0 < result.confidence.min() and result.confidence.max() <= 1


def test_its_classes_are_those_of_the_current_taxonomy(model):
    assert model.header.taxonomy == roadseg.load_taxonomy("hdmap-camvid")


def test_weights_are_float16_and_buffers_float32(model):
    parameters = {name for name, _ in network_of(model).named_parameters()}
    assert {model.tensors[name].dtype.name for name in parameters} == {"float16"}
    assert {model.tensors[name].dtype.name for name in set(model.tensors) - parameters} <= {"float32", "int64"}


def test_the_default_model_is_small():
    path = model_path(DEFAULT_MODEL)
    assert path.stat().st_size <= 13e6
    assert sum(p.numel() for p in network_of(read_model_file(path)).parameters()) <= 6_000_000


def test_its_header_says_for_what_it_may_be_used_and_how_it_was_made(model):
    licence = model.header.weights_licence
    assert licence != UNSPECIFIED_LICENCE and "research" in licence.lower()
    provenance = model.header.provenance
    assert provenance["recipe"] and provenance["data"]
    assert re.fullmatch(r"[0-9a-f]{40}", provenance["software"]["commit"]), "not of a tree with changes"


def test_its_card_has_every_part(parts):
    assert [title for title in TITLES if not parts.get(title, "").strip()] == []


def test_its_card_is_about_this_very_file(parts, model):
    text = "\n".join(parts.values())
    assert sha256(model.path.read_bytes()).hexdigest() in text
    assert model.header.provenance["software"]["commit"] in parts["Recipe"]
    assert re.search(r"\bseeds?\b\D{0,40}\d", parts["Recipe"])


def test_its_card_names_the_data_and_their_terms(parts, model):
    assert "CamVid" in parts["Data"] and "synthetic" in parts["Data"]
    assert model.header.weights_licence in " ".join(parts["Licence"].split())
    assert "research" in parts["Licence"] and "Apache-2.0" in parts["Licence"]


def test_its_card_has_a_figure_for_every_class(parts, model):
    for road_class in model.header.taxonomy.names:
        (row,) = re.findall(rf"^\| *`?{road_class}`? *\|(.*)\|", parts["Figures"], flags=re.MULTILINE)
        figures = [float(found) for found in re.findall(r"\d\.\d+", row)]
        assert figures and all(0 <= figure <= 1 for figure in figures), road_class


def test_nothing_but_models_and_their_cards_lies_beside_them():
    assert sorted(path.name for path in WEIGHTS.iterdir()) == sorted(FILES)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout")
def test_git_does_not_ignore_them():
    """The wheel takes from the package's folder what git does not ignore."""
    paths = [os.path.join("roadseg", "weights", file) for file in FILES]
    done = subprocess.run(["git", "check-ignore", "--no-index", *paths], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr


def test_the_wheel_holds_them():
    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"roadseg/weights/{file}" for file in FILES} <= shipped

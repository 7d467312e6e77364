"""With which masks an engine is compared."""

import json
import shutil

import numpy as np
import pytest

from roadseg.benching import reference
from roadseg.benching.reference import reference_masks
from roadseg.inference.artefact import ArtefactFacts, seal
from roadseg.inference.package import read_model_file
from roadseg.inference.predictor import load_predictor

PAIR = ((24, 40), 2)


@pytest.fixture
def images():
    return {PAIR: np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)}


@pytest.fixture
def artefact(tmp_path, model_file):
    """An artefact of the model file whose runtime's file holds no network."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not looked at")
    model = read_model_file(model_file)
    seal(folder, ArtefactFacts("onnx", "f32", model.header, model.digest))
    return folder


def test_a_model_file_is_compared_with_itself_in_torch(model_file, images):
    masks = reference_masks(str(model_file), [str(model_file)], images)
    predictor = load_predictor(model_file, engine="torch", device="cpu")
    expected = [predictor(image).mask for image in images[PAIR]]
    assert np.array_equal(masks[PAIR], expected)


def test_an_artefact_is_compared_with_the_model_file_that_it_was_made_of(model_file, artefact, images):
    masks = reference_masks(str(artefact), [str(artefact), str(model_file)], images)
    assert np.array_equal(masks[PAIR], reference_masks(str(model_file), [], images)[PAIR])


def test_without_that_model_file_there_is_no_agreement_and_never_another_models(artefact, images):
    found = reference_masks(str(artefact), [str(artefact)], images)
    assert found == "no agreement: give the model file that this artefact was made of as a MODEL too"


def test_a_bundled_models_artefact_finds_it_by_itself(artefact, images, model_file, tmp_path, monkeypatch):
    """Though another bundled model is not installed."""
    shutil.copy(model_file, tmp_path / "roadseg-nano.safetensors")
    monkeypatch.setattr(reference.bundled, "WEIGHTS", tmp_path)
    assert set(reference_masks(str(artefact), [], images)) == {PAIR}


def test_a_damaged_artefact_has_a_reason(artefact, images):
    description = artefact / "artefact.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"format": "abacus"}))
    assert reference_masks(str(artefact), [], images).startswith("no agreement: ")


def test_a_reference_that_does_not_fit_memory_is_a_note(model_file, images, monkeypatch):
    def run(self, images, outputs, **options):
        raise MemoryError("bad allocation")

    monkeypatch.setattr("roadseg.inference.torch_engine.TorchEngine.run", run)
    assert reference_masks(str(model_file), [], images) == "no agreement: MemoryError: bad allocation"

"""Model files with float16 weights: half the bytes, the same masks."""

import numpy as np
import pytest
import torch

import roadseg
from roadseg.checkpoint import HEADER_KEY
from roadseg.cli import main
from roadseg.data.synthetic import render_scene
from roadseg.inference.package import read_model_file
from roadseg.packaging import package_checkpoint

BIGGEST = 65504.0
"""The largest finite float16, 2^15 (2 - 2^-10)."""


@pytest.fixture
def checkpoint(model_file, tmp_path):
    """A training checkpoint of the random nano network; a function changes its weights."""
    model = read_model_file(model_file)
    architecture = model.header.architecture
    described = {
        "architecture": {
            "backbone": architecture.backbone,
            "decoder": architecture.decoder,
            "num_classes": architecture.num_classes,
            "options": dict(architecture.options),
        },
        "taxonomy": model.header.taxonomy.to_dict(),
        "recipe": {},
    }

    def write(**changed):
        tensors = {**model.tensors, **changed}
        path = tmp_path / "last.ckpt"
        torch.save(
            {
                HEADER_KEY: described,
                "state_dict": {f"network.{name}": torch.tensor(tensor) for name, tensor in tensors.items()},
                "epoch": 1,
                "global_step": 2,
            },
            path,
        )
        return path

    return write


@pytest.fixture
def both(checkpoint, tmp_path):
    """The same network packaged in full and in half precision, by the command."""
    path = str(checkpoint())
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    assert main(["package", path, "-o", str(full)]) == 0
    assert main(["package", path, "-o", str(half), "--half"]) == 0
    return full, half


def test_masks_of_half_and_full_precision_agree(both):
    full, half = (roadseg.load_predictor(path, device="cpu") for path in both)
    agreeing = total = 0
    for seed in range(4):
        scene = render_scene(seed, (120, 200)).image
        expected, mask = full(scene).mask, half(scene).mask
        assert len(np.unique(expected)) > 2, "a mask of one class would prove little"
        agreeing, total = agreeing + (mask == expected).sum(), total + mask.size
    assert agreeing / total > 0.999


def test_the_file_has_half_the_bytes(both):
    full, half = (path.stat().st_size for path in both)
    assert 0.48 < half / full < 0.54


def test_parameters_are_rounded_to_the_nearest_and_buffers_are_kept(both):
    full, half = (read_model_file(path).tensors for path in both)
    kept = {name for name, tensor in half.items() if tensor.dtype != np.float16}
    batch_norm = {f"decoder.norm.{part}" for part in ("running_mean", "running_var", "num_batches_tracked")}
    assert kept == {"mean", "std", *batch_norm}
    for name, tensor in half.items():
        assert np.array_equal(tensor, full[name] if name in kept else full[name].astype(np.float16))
        assert full[name].dtype in (np.float32, np.int64)


def test_it_is_loaded_into_single_precision(both):
    network = roadseg.load_predictor(both[1], device="cpu").engine._network
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32, torch.int64}


def test_a_weight_that_float16_cannot_hold_is_refused_by_name(checkpoint, tmp_path, capsys):
    bias = np.zeros(11, np.float32)
    bias[3] = -1.2e5
    path, output = str(checkpoint(**{"decoder.head.bias": bias})), tmp_path / "half.safetensors"
    assert main(["package", path, "-o", str(output), "--half"]) == 1
    assert "error: weight 'decoder.head.bias' holds 120000, and float16 ends at 65504; package without --half" in (
        capsys.readouterr().err
    )
    assert not output.exists()
    assert main(["package", path, "-o", str(output)]) == 0


@pytest.mark.parametrize(("value", "fits"), [(BIGGEST, True), (65519.0, True), (65520.0, False)])
def test_what_rounds_to_the_largest_float16_fits(checkpoint, tmp_path, value, fits):
    """Halfway to what would be the next number, 65536, float16 rounds to infinity."""
    path = checkpoint(**{"decoder.head.bias": np.full(11, value, np.float32)})
    if not fits:
        with pytest.raises(roadseg.RoadsegError, match="decoder.head.bias"):
            package_checkpoint(path, tmp_path / "half.safetensors", half=True)
        return
    package_checkpoint(path, tmp_path / "half.safetensors", half=True)
    assert read_model_file(tmp_path / "half.safetensors").tensors["decoder.head.bias"].max() == BIGGEST


def test_a_running_variance_beyond_float16_is_no_obstacle(checkpoint, tmp_path):
    path = checkpoint(**{"decoder.norm.running_var": np.full(32, 1e6, np.float32)})
    package_checkpoint(path, tmp_path / "half.safetensors", half=True)
    assert (read_model_file(tmp_path / "half.safetensors").tensors["decoder.norm.running_var"] == 1e6).all()

"""The torch engines: their precision and threads, which are the process's, and what torch.compile is given."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from roadseg.errors import EngineError
from roadseg.inference import compiled_engine
from roadseg.inference.compiled_engine import COMPILED_SHAPES, CompiledEngine, CompiledNetwork
from roadseg.inference.float32 import exact_float32
from roadseg.inference.torch_engine import NetworkRunner

MATMUL, CONV = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
CUDNN, CUDA = torch.backends.cudnn, torch.backends.cuda.matmul
IMAGES = np.zeros((1, 8, 8, 3), np.uint8)


@pytest.fixture
def rounding():
    """A user who lets products be rounded, everywhere."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def precisions(places=(MATMUL, CONV)):
    return [place.fp32_precision for place in places]


def test_f32_is_float32_whatever_the_process_is_set_to_and_leaves_it_so(rounding):
    assert MATMUL.fp32_precision == "bf16"
    seen = []

    def network(batch):
        seen.append((precisions(), torch.get_float32_matmul_precision()))
        return batch.float()

    NetworkRunner(network, None, "f32", "cpu").run(IMAGES, ("mask",))
    assert seen[0][0] == ["ieee", "ieee"] and precisions() == ["bf16", "none"]


def test_a_network_that_fails_leaves_the_processs_precision_as_it_was(rounding):
    def network(batch):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        NetworkRunner(network, None, "f32", "cpu").run(IMAGES, ("mask",))
    assert precisions() == ["bf16", "none"]


def test_threads_that_overlap_are_exact_until_the_last_one_is_done(rounding):
    first_in, second_in, first_out = Barrier(2), Barrier(2), Barrier(2)

    def first():
        with exact_float32():
            first_in.wait(9)
            second_in.wait(9)
        first_out.wait(9)

    def second():
        first_in.wait(9)
        with exact_float32():
            second_in.wait(9)
            first_out.wait(9)
            return precisions()

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(first), pool.submit(second)
        one.result(9)
        assert other.result(9) == ["ieee", "ieee"]
    assert precisions() == ["bf16", "none"]


def test_on_gpus_convolutions_do_not_round_and_other_libraries_may_still_ask():
    before = precisions((CUDNN.conv, CUDNN.rnn, CUDA))
    assert before[0] == "tf32", "torch's own habit"
    with exact_float32():
        assert precisions((CUDNN.conv, CUDNN.rnn, CUDA)) == ["ieee"] * 3
        assert (CUDNN.allow_tf32, CUDA.allow_tf32) == (False, False)
    assert precisions((CUDNN.conv, CUDNN.rnn, CUDA)) == before and CUDNN.allow_tf32


def test_what_was_inherited_is_inherited_again():
    with exact_float32():
        pass
    torch.backends.fp32_precision = "tf32"
    try:
        assert CONV.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = "none"


@pytest.mark.parametrize(
    ("place", "value"),
    [(torch.backends, "tf32"), (torch.backends.cuda.matmul, "tf32"), (torch.backends.mkldnn.matmul, "bf16")],
)
def test_a_process_that_uses_torchs_newer_settings_is_served_and_left_as_it_was(place, value):
    """After them the older ones can no longer be asked for."""
    everywhere = (torch.backends, *places_of_torch())
    place.fp32_precision = value
    try:
        set_to = [one.fp32_precision for one in everywhere]
        with exact_float32():
            assert {one.fp32_precision for one in places_of_torch()} == {"ieee"}
        assert [one.fp32_precision for one in everywhere] == set_to
        assert NetworkRunner(lambda batch: batch.float(), None, "f32", "cpu").run(IMAGES, ("mask",))
    finally:
        place.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")


def places_of_torch():
    return (CUDNN.conv, CUDNN.rnn, CUDA, CONV, MATMUL)


def test_settings_of_either_kind_are_as_before(rounding):
    CUDA.fp32_precision, before = "ieee", CUDA.fp32_precision
    try:
        with exact_float32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert (CUDA.fp32_precision, MATMUL.fp32_precision) == ("ieee", "bf16")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        CUDA.fp32_precision = before


def test_the_variable_for_threads_holds_for_torch(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("ROADSEG_THREADS", raising=False)
        NetworkRunner(Halves(), None, "f32", "cpu")
        assert torch.get_num_threads() == before
        monkeypatch.setenv("ROADSEG_THREADS", str(before + 2))
        NetworkRunner(Halves(), None, "f32", "cpu")
        assert torch.get_num_threads() == before + 2
    finally:
        torch.set_num_threads(before)


class Compilations:
    """In place of torch.compile: counts the shapes and strides that it would compile for."""

    def __init__(self):
        self.made = set()

    def __call__(self, network, **options):
        def compiled(batch):
            self.made.add((batch.shape, batch.stride(), batch.dtype))
            return network(batch)

        return compiled


class Halves(torch.nn.Module):
    def forward(self, batch):
        return batch.float() / 2


@pytest.fixture
def compilations(monkeypatch):
    counted = Compilations()
    monkeypatch.setattr(torch, "compile", counted)
    return counted


def test_images_of_many_sizes_are_compiled_for_up_to_a_bound_and_run_all_the_same(compilations, caplog):
    network = CompiledNetwork(Halves())
    batches = [torch.full((1, 3, 8 + i, 8), float(i)) for i in range(COMPILED_SHAPES + 3)]
    for batch in (*batches, *batches):
        assert torch.equal(network(batch), batch / 2)
    assert len(compilations.made) == COMPILED_SHAPES
    assert caplog.text.count("images come in more than 6 shapes") == 1


def test_neither_batches_nor_types_nor_orders_in_memory_are_compiled_for_on_a_cpu(compilations):
    network = CompiledNetwork(Halves())
    image = torch.randint(0, 256, (1, 8, 12, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    for batch in (image, image.float(), image.expand(3, -1, -1, -1), image.contiguous()):
        assert torch.equal(network(batch), batch / 2)
    assert len(compilations.made) == 1


def test_threads_compile_a_shape_once_and_all_get_their_own_answer(compilations):
    network = CompiledNetwork(Halves())
    batches = [torch.full((1, 3, 8 + i % 3, 8), float(i)) for i in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(network, batches))
    assert all(torch.equal(one, batch / 2) for one, batch in zip(found, batches, strict=True))
    assert len(compilations.made) == 3


def test_a_compiler_that_is_missing_is_told_when_the_model_is_loaded(tiny_models, monkeypatch):
    def fail(network, **options):
        def compiled(batch):
            raise RuntimeError("\nNo working C++ compiler found\nmore")

        return compiled

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(EngineError, match=r"needs a C\+\+ compiler .*headers.* \(No working C\+\+ compiler found\); "):
        CompiledEngine(tiny_models[None], "f32", "cpu")
    monkeypatch.setattr(compiled_engine, "_try_compiler", lambda device: None)
    engine = CompiledEngine(tiny_models[None], "f32", "cpu")
    with pytest.raises(EngineError, match="cannot compile the network for images of 8x8 px .*use engine 'torch'"):
        engine.run(IMAGES, ("mask",))


@pytest.mark.slow
def test_without_a_compiler_torch_says_so_at_once(tiny_models, tmp_path):
    code = (
        "import sys; from roadseg.inference.package import read_model_file;"
        "from roadseg.inference.engines import make_engine;"
        "make_engine(read_model_file(sys.argv[1]), 'torch-compile', 'f32', 'cpu')"
    )
    environment = os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tiny_models[None].path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("roadseg.errors.EngineError: engine 'torch-compile' needs a C++ compiler"), done.stderr

"""Mutated images: whatever the bytes, the decoder gives pixels or says what is wrong, and keeps no memory."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadseg.errors import CorruptImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from roadseg.images import decode_image
from tests.image_seeds import SEEDS

MAX_PIXELS = 200_000
REFUSALS = {CorruptImageError, ImageTooLargeError, UnsupportedImageError}

edit = st.one_of(
    st.tuples(st.just("flip"), st.floats(0, 1), st.integers(0, 7)),
    st.tuples(st.just("set"), st.floats(0, 1), st.integers(0, 255)),
    st.tuples(st.just("cut"), st.floats(0, 1), st.integers(1, 64)),
    st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("splice"), st.floats(0, 1), st.integers(0, len(SEEDS) - 1)),
    st.tuples(st.just("length"), st.floats(0, 1), st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])),
)


def mutate(data, edits):
    """Apply edits, half of them near the front, where the headers are."""
    data = bytearray(data)
    for number, (kind, where, value) in enumerate(edits):
        at = int(where * (min(len(data), 80) if number % 2 else len(data)))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << value
        elif kind == "set" and at < len(data):
            data[at] = value
        elif kind == "cut":
            del data[at : at + value]
        elif kind == "insert":
            data[at:at] = value
        elif kind == "splice":
            data[at:] = SEEDS[value][at:]
        elif kind == "length":
            size = 2 if value <= 0xFFFF else 4
            data[at : at + size] = value.to_bytes(size, "big" if number % 3 else "little")
    return bytes(data)


def check(data):
    """Decode, and hold what comes of it to the contract; gives whether there were pixels."""
    try:
        decoded = decode_image(data, max_pixels=MAX_PIXELS, max_side_px=4096)
    except ImageError as error:
        assert type(error) in REFUSALS and str(error).startswith("image ")
        return False
    pixels = decoded.pixels
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.flags.c_contiguous
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    assert decoded.format in {"JPEG", "PNG", "WEBP"} and 1 <= decoded.exif_orientation <= 8
    assert np.array_equal(pixels, decode_image(data).pixels), "the same bytes give the same pixels"
    return True


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.sampled_from(SEEDS), st.lists(edit, min_size=1, max_size=6))
def test_mutated_images_give_pixels_or_a_refusal(seed, edits):
    check(mutate(seed, edits))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"<svg"]),
    st.binary(max_size=200),
)
def test_arbitrary_bytes_are_refused(magic, data):
    assert check(magic + data) is False


@pytest.mark.slow
def test_two_minutes_of_mutated_images_leave_memory_flat():
    counts = fuzz(120, seed=0)
    assert counts["pixels"] > 100 and counts["refused"] > 100
    assert counts["grown"] < 32 * 2**20


def fuzz(seconds, seed):
    """Mutate and decode for a time; gives how many gave pixels, how many did not, and by how much memory grew."""
    choose, counts, base = random.Random(seed), {"pixels": 0, "refused": 0}, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        edits = [random_edit(choose) for _ in range(choose.randint(1, 5))]
        counts["pixels" if check(mutate(choose.choice(SEEDS), edits)) else "refused"] += 1
        if sum(counts.values()) == 2000:
            base = resident_bytes()  # allocators and caches are warm
    return {**counts, "grown": resident_bytes() - base}


def random_edit(choose):
    values = {
        "flip": lambda: choose.randint(0, 7),
        "set": lambda: choose.randint(0, 255),
        "cut": lambda: choose.randint(1, 64),
        "insert": lambda: choose.randbytes(choose.randint(1, 16)),
        "splice": lambda: choose.randrange(len(SEEDS)),
        "length": lambda: choose.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]),
    }
    kind = choose.choice(list(values))
    return kind, choose.random(), values[kind]()


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096

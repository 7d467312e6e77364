"""Near-identical pictures: found by the quick way as by comparing all, and bounded work where everything is equal."""

import numpy as np
import pytest

from roadseg.audit import fingerprints
from roadseg.audit.fingerprints import ALIKE, find_alike, find_equal


def street_like(count: int, seed: int) -> np.ndarray:
    """Pictures that share a bright sky above a dark road, as streets do: hashes of the raw pixels would agree."""
    rng = np.random.default_rng(seed)
    common = np.repeat(np.linspace(230, 60, 16), 16)
    return np.clip(common + rng.normal(0, 28, (count, 256)), 0, 255).astype(np.uint8)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.astype(float), b.astype(float))[0, 1])


@pytest.fixture
def only_hashes(monkeypatch):
    monkeypatch.setattr(fingerprints, "_FEW_PAIRS", 0)


def with_copies(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    """3000 and 400 pictures, of which 40 are noisy, brighter copies."""
    first, second = street_like(3000, 1), street_like(400, 2)
    copies = {int(row): int(rng.integers(3000)) for row in rng.choice(400, 40, replace=False)}
    for row, original in copies.items():
        changed = first[original] * 0.9 + 12 + rng.normal(0, 2.5, 256)
        second[row] = np.clip(changed, 0, 255).astype(np.uint8)
    return first, second, copies


def test_comparing_all_finds_exactly_the_copies():
    first, second, copies = with_copies(np.random.default_rng(3))
    rows, originals, scores = find_alike(first, second)
    assert dict(zip(rows.tolist(), originals.tolist(), strict=True)) == copies
    for row, original, score in zip(rows, originals, scores, strict=True):
        assert score == pytest.approx(correlation(second[row], first[original]), abs=1e-4) and score >= ALIKE


@pytest.mark.usefixtures("only_hashes")
def test_hashing_finds_what_comparing_all_finds():
    first, second, copies = with_copies(np.random.default_rng(4))
    rows, originals, _ = find_alike(first, second)
    assert dict(zip(rows.tolist(), originals.tolist(), strict=True)).items() <= copies.items()
    assert len(rows) >= 39


@pytest.mark.usefixtures("only_hashes")
def test_exact_copies_are_always_found_by_hashing():
    first = street_like(20_000, 5)
    rows, originals, scores = find_alike(first, first[7::400])
    assert rows.tolist() == list(range(50)) and originals.tolist() == list(range(7, 20_000, 400))
    assert scores == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("only_hashes")
@pytest.mark.parametrize("value", ["blank", "one picture"])
def test_equal_pictures_cost_no_more_than_different_ones(value, monkeypatch):
    """The number of comparisons is bounded by a window, however many hashes are the same."""
    one = np.zeros(256, np.uint8) if value == "blank" else street_like(1, 6)[0]
    compared = []
    keep = fingerprints._keep_better
    monkeypatch.setattr(
        fingerprints,
        "_keep_better",
        lambda a, b, rows, columns, *rest: (compared.append(columns.size), keep(a, b, rows, columns, *rest)),
    )
    rows, _, _ = find_alike(np.tile(one, (5000, 1)), np.tile(one, (2000, 1)))
    assert sum(compared) == 2000 * 2 * fingerprints._WINDOW * 8
    assert len(rows) == (0 if value == "blank" else 2000)


def test_equal_pictures_are_told_by_their_first():
    thumbs = street_like(6, 7)
    thumbs[[3, 5]] = thumbs[1]
    thumbs[4] = thumbs[0]
    copies, originals = find_equal(thumbs)
    assert copies.tolist() == [3, 4, 5] and originals.tolist() == [1, 0, 1]


def test_no_pictures_are_no_trouble():
    none = np.zeros((0, 256), np.uint8)
    assert [len(part) for part in (*find_alike(none, street_like(3, 8)), *find_alike(street_like(3, 8), none))] == [
        0
    ] * 6
    assert [len(part) for part in find_equal(none)] == [0, 0]

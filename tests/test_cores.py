"""How many cores a process counts as its own."""

import os

import pytest

from roadseg import cores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("1000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("", 8),
        ("5 0\n", 8),
        (None, 8),
    ],
)
def test_a_limit_on_cpu_time_counts_in_whole_cores(tmp_path, monkeypatch, text, expected):
    """As the kernel writes cpu.max: microseconds that may be used in each period of so many."""
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores.usable_cores() == expected

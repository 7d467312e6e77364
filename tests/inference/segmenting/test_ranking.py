"""Which frames are listed, and in which order."""

import csv
import json
import os

import numpy as np
import pytest

from roadseg.errors import ConfigError
from roadseg.inference.segmenting.ranking import rank_frames, write_ranking


def rows(confidences, folder="drive"):
    return [(f"{folder}/{i:03d}.jpg", {"mean_confidence": c}) for i, c in enumerate(confidences)]


def test_the_most_uncertain_frame_comes_first_and_stands_for_its_neighbours():
    ranking = rank_frames(rows([0.9, 0.5, 0.6, 0.95, 0.4, 0.8, 0.7]), apart=2)
    assert ranking == [("drive/004.jpg", 0.6), ("drive/001.jpg", 0.5), ("drive/006.jpg", 0.3)]
    assert [name for name, _ in rank_frames(rows([0.9, 0.5, 0.6]), apart=1)] == [f"drive/00{i}.jpg" for i in (1, 2, 0)]


def test_frames_of_other_folders_are_no_neighbours():
    # As a walk gives them: the files of a folder around those of the folder in it.
    frames = [*rows([0.5], "a"), *rows([0.4, 0.3], "a/b"), ("a/z.jpg", {"mean_confidence": 0.2})]
    assert [name for name, _ in rank_frames(frames, apart=5)] == ["a/z.jpg", "a/b/001.jpg"]


def test_frames_that_failed_or_are_ignored_whole_are_not_listed():
    frames = [("a.jpg", {"error": "broken"}), ("b.jpg", {"mean_confidence": None}), ("c.jpg", {"mean_confidence": 1.0})]
    assert rank_frames(frames) == [("c.jpg", 0.0)] and rank_frames([]) == []
    with pytest.raises(ConfigError, match="cannot be ranked 0 apart; use 1 or more"):
        rank_frames([], apart=0)


def test_what_is_left_out_is_near_a_listed_frame_that_is_as_uncertain():
    confidences = np.random.default_rng(0).random(300).round(2).tolist()
    listed = {int(name[6:9]): score for name, score in rank_frames(rows(confidences), apart=7)}
    assert list(listed.values()) == sorted(listed.values(), reverse=True)
    assert all(b - a >= 7 for a, b in zip(sorted(listed), sorted(listed)[1:], strict=False))
    for i, confidence in enumerate(confidences):
        near = [score for j, score in listed.items() if abs(i - j) < 7]
        assert near and max(near) >= round(1 - confidence, 6)


def test_the_files_say_the_same(tmp_path):
    frames = [(os.fsdecode(b"caf\xe9,\n.jpg"), {"mean_confidence": 0.25}), ("b/b.jpg", {"mean_confidence": 0.5})]
    path = write_ranking(rank_frames(frames), tmp_path, None)
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    documents = [json.loads(line) for line in (tmp_path / "ranking.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(int(r["rank"]), r["image"], float(r["uncertainty"])) for r in table] == [
        (1, "caf\\xe9,\n.jpg", 0.75), (2, "b/b.jpg", 0.5),
    ]  # fmt: skip
    assert [(d["rank"], d["image"], d["uncertainty"]) for d in documents] == [
        (int(r["rank"]), r["image"], float(r["uncertainty"])) for r in table
    ]

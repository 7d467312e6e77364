"""What lies beside tar shards; see `roadseg.data.shards`."""

from dataclasses import asdict
from typing import Any, NamedTuple

from roadseg.data.class_table import ClassTable, SourceLabel

VERSION = 1
INDEX, FRAMES = "index.json", "frames.jsonl"


class ShardEntry(NamedTuple):
    """One line of `frames.jsonl`: a frame, and where its files lie in its shard (offset and length in bytes)."""

    name: str
    image: str
    label: str
    drive: str
    split: str
    height: int
    width: int
    image_offset: int
    image_length: int
    label_offset: int
    label_length: int


def classes_to_json(table: ClassTable) -> dict[str, Any]:
    """A class table in plain values."""
    return asdict(table)


def classes_from_json(data: Any) -> ClassTable:
    """The class table of plain values; a wrong one raises KeyError, TypeError or the like."""
    labels = [
        SourceLabel(
            x["id"],
            x["name"],
            None if x["colour"] is None else (x["colour"][0], x["colour"][1], x["colour"][2]),
            {family: tuple(names) for family, names in x["to"].items()},
            x["train_id"],
        )
        for x in data["labels"]
    ]
    return ClassTable(data["name"], tuple(labels), data["source"], data["licence"])

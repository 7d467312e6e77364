"""Sharing frames out among machines that do not talk to each other."""

import hashlib
import os
import re
from dataclasses import dataclass

from roadseg.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of several parts of all frames.

    A frame's part depends on its relative path alone: frames that are added later move none of the others.

    Attributes:
        number: 1 to `total`.
        total: how many parts there are.
    """

    number: int
    total: int

    def holds(self, relative: str) -> bool:
        """Whether a frame is in this part.

        Args:
            relative: the frame's path below the folder that is searched, with forward slashes.
        """
        digest = hashlib.blake2b(os.fsencode(relative), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.total == self.number - 1

    def file_name(self, name: str) -> str:
        """A file name with the part's name in it: "manifest.jsonl" becomes "manifest-2-of-8.jsonl"."""
        stem, dot, ending = name.partition(".")
        return f"{stem}-{self.number}-of-{self.total}{dot}{ending}"


def parse_shard(text: str) -> Shard:
    """A shard from text such as "2/8", the second of eight.

    Raises:
        ConfigError: when it says no such thing.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"shard is '{text}'; use NUMBER/TOTAL, from 1/1: 2/8 is the second of eight")
    return Shard(int(match[1]), int(match[2]))

"""What an audit reports: for people, and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import roadseg
from roadseg.audit.findings import Finding, Occurrence
from roadseg.errors import OutputError, plural
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX

VERSION = 1
_SHOWN = 5


@dataclass(frozen=True)
class PartSummary:
    """Frames of a dataset in a split.

    Attributes:
        dataset: its name.
        split: its name.
        frames: their number.
        sizes: (H, W) -> number of images, most frequent first.
    """

    dataset: str
    split: str
    frames: int
    sizes: dict[tuple[int, int], int]


@dataclass(frozen=True)
class AuditReport:
    """The outcome of an audit.

    Attributes:
        findings: that were not waived; errors first.
        waived: that were.
        unused_waivers: waivers that matched nothing.
        parts: what was read.
        label_sets: the meaning of the set ids; None when nothing was read.
        pixels: by split, (256,) int64 pixels of each set id, those ignored at 255.
    """

    findings: list[Finding] = field(default_factory=list)
    waived: list[Finding] = field(default_factory=list)
    unused_waivers: list[str] = field(default_factory=list)
    parts: list[PartSummary] = field(default_factory=list)
    label_sets: LabelSets | None = None
    pixels: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Number of occurrences of errors that were not waived."""
        return sum(f.count for f in self.findings if f.check.severity == "error")

    @property
    def warnings(self) -> int:
        """Number of occurrences of warnings that were not waived."""
        return sum(f.count for f in self.findings if f.check.severity == "warning")

    @property
    def exit_code(self) -> int:
        """1 when there is an error that was not waived, else 0."""
        return int(self.errors > 0)

    def shares(self, split: str) -> dict[str, float]:
        """Part of a split's labelled pixels that each set of classes holds, by its name; only those that occur."""
        if self.label_sets is None:
            return {}
        counts = self.pixels[split]
        total = int(counts[:IGNORE_INDEX].sum())
        return {name: int(n) / total for name, n in zip(self.label_sets.names, counts, strict=False) if n}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON; equal audits give equal values."""
        return {
            "version": VERSION,
            "roadseg": roadseg.__version__,
            "exit_code": self.exit_code,
            "errors": self.errors,
            "warnings": self.warnings,
            "findings": [f.to_dict() for f in self.findings],
            "waived": [f.to_dict() for f in self.waived],
            "unused_waivers": self.unused_waivers,
            "datasets": [
                {
                    "dataset": part.dataset,
                    "split": part.split,
                    "frames": part.frames,
                    "sizes": [{"height": h, "width": w, "frames": n} for (h, w), n in part.sizes.items()],
                }
                for part in self.parts
            ],
            "classes": {split: self._classes_of(split) for split in self.pixels},
        }

    def write_json(self, path: str | Path) -> None:
        """Write `to_dict` to a file.

        Raises:
            OutputError: when it cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def text(self) -> str:
        """A table for people, with the first files of each finding and what to do."""
        return "\n".join(self._lines())

    def _classes_of(self, split: str) -> dict[str, Any]:
        counts = self.pixels[split]
        shares = self.shares(split)
        names = self.label_sets.names if self.label_sets else []
        sets = [
            {"set": name.split("+"), "pixels": int(n), "share": shares.get(name, 0.0)}
            for name, n in zip(names, counts, strict=False)
        ]
        return {"labelled": int(counts[:IGNORE_INDEX].sum()), "ignored": int(counts[IGNORE_INDEX]), "sets": sets}

    def _lines(self) -> Iterator[str]:
        for part in self.parts:
            sizes = ", ".join(f"{w}x{h}" for h, w in list(part.sizes)[:3]) + (", ..." if len(part.sizes) > 3 else "")
            yield f"{part.dataset} {part.split}: {part.frames} frames, {sizes}"
        yield ""
        for finding in self.findings:
            yield from _finding_lines(finding)
        for finding in self.waived:
            yield f"waived   {_row(finding)}  by '{finding.waiver}'"
        for text in self.unused_waivers:
            yield f"note     the waiver '{text}' matched nothing; remove it"
        waived = sum(f.count for f in self.waived)
        yield f"{plural(self.errors, 'error')}, {plural(self.warnings, 'warning')}, {waived} waived"


def _finding_lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.check.severity:8} {_row(finding)}  {finding.check.what}"
    for occurrence in finding.examples[:_SHOWN]:
        yield f"    {_place(occurrence)}: {occurrence.detail}"
    if finding.count > _SHOWN and len(finding.examples) > _SHOWN:
        yield f"    ... and {finding.count - _SHOWN} more"
    yield f"    fix: {finding.check.fix}"


def _row(finding: Finding) -> str:
    where = " ".join(filter(None, (finding.dataset, finding.split)))
    return f"{finding.check.name:17} {where:20} {finding.count:6}"


def _place(occurrence: Occurrence) -> str:
    return occurrence.file or occurrence.subject

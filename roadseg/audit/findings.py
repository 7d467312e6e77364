"""Findings, collected in constant memory: counts, and the first occurrences by name."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from roadseg.audit.checks import CHECKS, Check
from roadseg.audit.waivers import Waivers

KEPT = 20
"""Occurrences of a finding that are kept with their names; all are counted."""


@dataclass(frozen=True)
class Occurrence:
    """One defect at one place.

    Attributes:
        check: name of the check.
        dataset: where it was found; "" for what concerns them all.
        split: where it was found; "" for what concerns them all.
        subject: the frame, the drive or the class.
        file: path of the file, or "" where there is none.
        detail: what was seen.
    """

    check: str
    dataset: str
    split: str
    subject: str
    file: str = ""
    detail: str = ""


@dataclass
class Finding:
    """All occurrences of a check in a split of a dataset.

    Attributes:
        check: what was found.
        dataset: name of the dataset, "" for all.
        split: name of the split, "" for all.
        waiver: that accepts these occurrences, or None.
        count: number of occurrences.
        examples: the first of them.
    """

    check: Check
    dataset: str
    split: str
    waiver: str | None = None
    count: int = 0
    examples: list[Occurrence] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        examples = [{k: v for k, v in asdict(o).items() if k in {"subject", "file", "detail"}} for o in self.examples]
        return {
            "check": self.check.name,
            "severity": self.check.severity,
            "what": self.check.what,
            "fix": self.check.fix,
            "dataset": self.dataset,
            "split": self.split,
            "waiver": self.waiver,
            "count": self.count,
            "examples": examples,
        }


class FindingStore:
    """Collects occurrences.

    Args:
        waivers: sort out what is accepted.
    """

    def __init__(self, waivers: Waivers) -> None:
        self._waivers = waivers
        self._found: dict[tuple[str, str, str, str | None], Finding] = {}

    def add(self, occurrence: Occurrence, times: int = 1) -> None:
        """Count an occurrence; `times` where one stands for many."""
        o = occurrence
        waiver = self._waivers.match(o.check, (o.dataset, o.split, o.subject, o.file))
        key = (o.check, o.dataset, o.split, waiver)
        finding = self._found.get(key)
        if finding is None:
            finding = self._found[key] = Finding(CHECKS[o.check], o.dataset, o.split, waiver)
        finding.count += times
        if len(finding.examples) < KEPT:
            finding.examples.append(o)

    def drop(self, check: str, dataset: str) -> None:
        """Forget what a finding about the whole dataset explains."""
        self._found = {key: f for key, f in self._found.items() if key[:2] != (check, dataset)}

    def count(self, checks: Collection[str], dataset: str, split: str) -> int:
        """Number of occurrences of some checks in a split of a dataset, waived or not."""
        return sum(
            f.count for (check, *where, _), f in self._found.items() if check in checks and where == [dataset, split]
        )

    def sorted(self) -> list[Finding]:
        """The findings: errors first, then in the order of the checks."""
        order = {name: i for i, name in enumerate(CHECKS)}
        return sorted(
            self._found.values(),
            key=lambda f: (f.check.severity, order[f.check.name], f.dataset, f.split, f.waiver or ""),
        )

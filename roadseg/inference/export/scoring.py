"""How good masks are against labels: by areas, by edges, and by what is thin."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roadseg.label_sets import LabelSets
from roadseg.metrics.suite import MetricSuite
from roadseg.metrics.tally import Tally


@dataclass(frozen=True)
class Scores:
    """Of masks against labels, see `roadseg.metrics.suite.MetricSuite`; None where there is nothing to score.

    Attributes:
        miou: mean over the classes.
        boundary_f1: mean over the classes, by tolerance, such as "2px".
        thin_recall: by name of each thin class: poles, lane markings, ...
    """

    miou: float | None
    boundary_f1: Mapping[str, float | None]
    thin_recall: Mapping[str, float | None]

    @property
    def rows(self) -> dict[str, float | None]:
        """All of them by name, for people."""
        edges = {f"boundary F1 at {tolerance}": value for tolerance, value in self.boundary_f1.items()}
        thin = {f"thin recall, {name}": value for name, value in self.thin_recall.items()}
        return {"mIoU": self.miou, **edges, **thin}


class Scorer:
    """Adds up masks one by one.

    Args:
        label_sets: meaning of the ids in the labels.
    """

    def __init__(self, label_sets: LabelSets) -> None:
        self._suite = MetricSuite(label_sets)
        self._tally = Tally(self._suite.zero())

    def add(self, mask: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> None:
        """Count one image: class ids (H, W) uint8 against set ids (H, W) uint8, 255 ignored."""
        self._tally.add(self._suite.count(mask, truth))

    def scores(self) -> Scores:
        """Of all that were added."""
        found = self._suite.scores(self._tally.summed())
        thin = {name: one["recall"] for name, one in found["thin"].items()}
        return Scores(found["miou"], dict(found["boundary_f1"]), thin)


def difference_table(before: Scores, after: Scores) -> str:
    """A table of two models' scores and their differences.

    Args:
        before: of the model file.
        after: of the exported model.
    """
    lines = [f"{'':<28}{'model file':>12}{'exported':>12}{'difference':>12}"]
    for (name, old), new in zip(before.rows.items(), after.rows.values(), strict=True):
        if old is not None and new is not None:
            lines.append(f"{name:<28}{old:>12.4f}{new:>12.4f}{new - old:>+12.4f}")
    return "\n".join(lines)

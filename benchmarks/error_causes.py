"""What a model's wrong pixels have in common, and what mIoU would be without each cause.

    python -m benchmarks.error_causes MODEL -c configs/bundled/roadseg-nano.yaml -o benchmarks/results/error_causes.json

Every wrong pixel of the validation frames has one cause, the first that holds:

- thin: truth or prediction holds no square of 7 px there (in a frame of 360 rows): a pole, a far sign, a twig.
- edge: the predicted class is there, but up to 2 px away: the right things, drawn a little wrong.
- A as B: something larger, taken for something else.

Then the pixels of one cause are set right, all others stay as they are, and mIoU is computed again: what it gains is
what this cause costs, as TIDE does for detectors (arXiv 2008.08115). The same is done for bands of rows, which on a
road stand for distance. Frames are scored at their own size. A bundled model has seen every frame of CamVid: take one
that was trained with the drive held out.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from benchmarks.training_runs import ROOT
from roadseg.benching.machine import describe_machine
from roadseg.data.config import read_data_config
from roadseg.evaluation.drawing import right_pixels
from roadseg.evaluation.frames import ScoredFrames, open_scored
from roadseg.evaluation.seen import seen_in_training
from roadseg.inference.predictor import Predictor, load_predictor
from roadseg.label_sets import LabelSets
from roadseg.metrics.regions import coarsest_regions, region_iou
from roadseg.metrics.rows import row_bands
from roadseg.taxonomy import IGNORE_INDEX

ROWS = 360
THIN_PX, EDGE_PX = 7, 2
"""In a frame of `ROWS` rows."""

BANDS = 6
Mask = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


def thin_pixels(ids: Mask, width_px: int) -> Flags:
    """Pixels that lie in no square of a width whose pixels all have their id, or none (255).

    What nobody labelled may be more of the thing beside it.

    Args:
        ids: (H, W).
        width_px: side of the square, odd.
    """
    square = np.ones((width_px, width_px), np.uint8)
    thin, unknown = np.zeros(ids.shape, bool), ids == IGNORE_INDEX
    for value in np.unique(ids[~unknown]):
        region = ids == value
        wide = cv2.morphologyEx((region | unknown).astype(np.uint8), cv2.MORPH_OPEN, square)
        thin |= region & (wide == 0)
    return thin


def displaced_pixels(mask: Mask, truth: Mask, label_sets: LabelSets, distance_px: int) -> Flags:
    """Pixels whose predicted class the truth allows at a pixel within a distance (a square's, not a circle's).

    Args:
        mask: (H, W) predicted classes.
        truth: (H, W) set ids, 255 ignored.
        label_sets: their meaning.
        distance_px: on either side.
    """
    window = np.ones((2 * distance_px + 1,) * 2, np.uint8)
    allowed = np.zeros((256, len(label_sets.taxonomy)), np.uint8)
    allowed[: len(label_sets)] = label_sets.membership
    found = np.zeros(mask.shape, bool)
    for value in np.unique(mask):
        found |= (mask == value) & (cv2.dilate(allowed[truth, value], window) == 1)
    return found


class Causes:
    """Counts of wrong pixels by cause, summed over frames.

    Args:
        label_sets: meaning of the ids in the truth.
    """

    def __init__(self, label_sets: LabelSets) -> None:
        self.label_sets = label_sets
        shape = (len(label_sets), len(label_sets.taxonomy))
        self.all = np.zeros(shape, np.int64)
        self.by_cause = {"thin": np.zeros(shape, np.int64), "edge": np.zeros(shape, np.int64)}
        self.bands = np.zeros((BANDS, *shape), np.int64)

    def add(self, mask: Mask, truth: Mask) -> None:
        """Count a frame: predicted classes and set ids, (H, W) each."""
        scale = len(truth) / ROWS
        wrong = (truth < len(self.label_sets)) & ~right_pixels(mask, truth, self.label_sets)
        width = 2 * round((THIN_PX * scale - 1) / 2) + 1
        thin = wrong & (thin_pixels(truth, width) | thin_pixels(mask, width))
        edge = wrong & ~thin & displaced_pixels(mask, truth, self.label_sets, max(1, round(EDGE_PX * scale)))
        self.all += self._pairs(mask, truth, truth < len(self.label_sets))
        self.by_cause["thin"] += self._pairs(mask, truth, thin)
        self.by_cause["edge"] += self._pairs(mask, truth, edge)
        for band, rows in enumerate(row_bands(len(truth), BANDS)):
            self.bands[band] += self._pairs(mask[rows], truth[rows], wrong[rows])

    def report(self, largest: int = 12) -> dict[str, Any]:
        """mIoU, its gain where a cause is set right, and each cause's share of the wrong pixels.

        Args:
            largest: pairs of classes that are named.
        """
        wrong = self.all * ~self.label_sets.membership
        body = wrong - self.by_cause["thin"] - self.by_cause["edge"]
        lines = {cause: self._line(counts, wrong) for cause, counts in self.by_cause.items()}
        names = [self._name(i) for i in range(len(self.label_sets))]
        pairs = {}
        for truth, predicted in zip(*np.nonzero(body), strict=True):
            only = np.zeros_like(body)
            only[truth, predicted] = body[truth, predicted]
            pairs[f"{names[truth]} as {names[predicted]}"] = self._line(only, wrong)
        named = sorted(pairs, key=lambda name: -pairs[name]["gain"])[:largest]
        return {
            "miou": self._miou(self.all),
            "causes": lines | {"all larger things": self._line(body, wrong)} | {name: pairs[name] for name in named},
            "by_band_from_the_top": [self._line(band, wrong) for band in self.bands],
            "by_class": {
                names[i]: {cause: self._gain(counts, [i]) for cause, counts in (*self.by_cause.items(), ("body", body))}
                for i in coarsest_regions(torch.from_numpy(self.all), self.label_sets)
            },
        }

    def _line(self, counts: npt.NDArray[np.int64], wrong: npt.NDArray[np.int64]) -> dict[str, float]:
        return {"gain": self._gain(counts), "share": float(counts.sum() / wrong.sum())}

    def _gain(self, counts: npt.NDArray[np.int64], regions: list[int] | None = None) -> float:
        """What mIoU, or the mean IoU of some regions, gains where counted errors are set right."""
        corrected = self.all - counts
        for set_id, members in enumerate(self.label_sets.members):
            corrected[set_id, members[0]] += counts[set_id].sum()
        return self._miou(corrected, regions) - self._miou(self.all, regions)

    def _miou(self, counts: npt.NDArray[np.int64], regions: list[int] | None = None) -> float:
        table = torch.from_numpy(counts)
        regions = coarsest_regions(torch.from_numpy(self.all), self.label_sets) if regions is None else regions
        return float(region_iou(table, self.label_sets)[regions].nanmean())

    def _name(self, set_id: int) -> str:
        return "+".join(self.label_sets.taxonomy.classes[c].name for c in self.label_sets.members[set_id])

    def _pairs(self, mask: Mask, truth: Mask, where: Flags) -> npt.NDArray[np.int64]:
        sets, classes = self.all.shape
        pairs = truth[where].astype(np.int64) * classes + mask[where]
        return np.bincount(pairs, minlength=sets * classes).reshape(sets, classes)


def find_causes(predictor: Predictor, frames: ScoredFrames) -> Causes:
    """Count the wrong pixels of a model on all frames."""
    causes = Causes(frames.label_sets)
    for index in tqdm(range(len(frames)), unit="frame", disable=None):
        frame = frames.read(index)
        causes.add(predictor(frame.image).mask, frame.truth)
    return causes


def print_report(report: Mapping[str, Any]) -> None:
    """One cause a line, then the bands."""
    print(f"mIoU (merged) {report['miou']:.3f}\n{'cause':44}{'mIoU gains':>12}{'of wrong pixels':>17}")
    for cause, line in report["causes"].items():
        print(f"{cause:44}{line['gain']:>+12.3f}{line['share']:>16.1%}")
    for band, line in enumerate(report["by_band_from_the_top"], 1):
        print(f"{f'rows, sixth {band} from the top':44}{line['gain']:>+12.3f}{line['share']:>16.1%}")


def main() -> None:
    """Score, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model file, or name of a bundled model")
    parser.add_argument("-c", "--config", type=Path, default=ROOT / "configs" / "bundled" / "roadseg-nano.yaml")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    predictor = load_predictor(args.model)
    frames = open_scored(args.config, "val", predictor.taxonomy)
    seen = seen_in_training(predictor.header.provenance, predictor.taxonomy, frames, read_data_config(args.config))
    print(seen)
    report = {
        "model": predictor.digest,
        "short_side_px": predictor.header.short_side_px,
        "frames": len(frames),
        "seen_in_training": seen.verdict,
        "machine": describe_machine(),
        **find_causes(predictor, frames).report(),
    }
    print_report(report)
    if args.output:
        args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

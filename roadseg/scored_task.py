"""The half of the training task that scores: validation, test and prediction as a LightningModule.

Validation counts pixels alone: it runs again and again while training waits. The test counts everything that
`roadseg eval` does.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from roadseg.label_sets import LabelSets
from roadseg.metrics.confusion import ConfusionMatrix
from roadseg.metrics.regions import accuracy, coarsest_regions, region_iou
from roadseg.metrics.suite import MetricSuite
from roadseg.metrics.tally import Tally


class ScoredTask(LightningModule):
    """A task whose `forward` gives logits (B, C, H, W), scored on masks of set ids.

    Attributes:
        label_sets: meaning of the ids in masks.
    """

    def score_with(self, label_sets: LabelSets) -> None:
        """Make the counters; to be called once, by the constructor.

        Args:
            label_sets: meaning of the ids in masks.
        """
        self.label_sets, number = label_sets, len(label_sets.taxonomy)
        self._scores: dict[str, float] = {}
        """Of the last validation, with the epoch and step after which it was run."""
        self._confusion = ConfusionMatrix(number, len(label_sets))
        self._suite = MetricSuite(label_sets)
        self._tally = Tally(self._suite.zero())

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count a batch of the validation split."""
        self._confusion.update(self._logits_of_labels(batch).argmax(1), batch["mask"])

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count a batch of the test split."""
        confidence, predicted = self._logits_of_labels(batch).softmax(1).max(1)
        maps = (predicted.to(torch.uint8), batch["mask"].to(torch.uint8), confidence)
        for image in zip(*(x.cpu().numpy() for x in maps), strict=True):
            self._tally.add(self._suite.count(*image))

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Masks (B, H, W) uint8 of class ids, with the images' paths."""
        return {"mask": self._full_precision_logits(batch["image"]).argmax(1).to(torch.uint8), "name": batch["name"]}

    def on_validation_epoch_start(self) -> None:
        """Start counting the validation split."""
        self._confusion.reset()

    def on_validation_epoch_end(self) -> None:
        """Score the validation split."""
        scores = self._log_scores("val", self._scores_of(self._confusion.summed()))
        if not self.trainer.sanity_checking:
            self._scores = {"epoch": self.current_epoch, "global_step": self.global_step, **scores}

    def on_test_epoch_start(self) -> None:
        """Start counting the test split."""
        self._tally = Tally(self._suite.zero())

    def on_test_epoch_end(self) -> None:
        """Score the test split."""
        counts = self._tally.summed()
        pixels = self._scores_of(torch.from_numpy(counts["confusion"]))
        self._log_scores("test", pixels | _beyond_pixels(self._suite.scores(counts)))

    def _logits_of_labels(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits at the size of the labels, which is what is scored, whatever the scale of segmentation."""
        logits, size = self._full_precision_logits(batch["image"]), batch["mask"].shape[1:]
        return logits if logits.shape[2:] == size else F.interpolate(logits, size, mode="bilinear")

    def _full_precision_logits(self, image: Tensor) -> Tensor:
        """Logits in float32, also where training runs in bf16: scores are those of the model as it will be served."""
        with torch.autocast(image.device.type, enabled=False):
            return self(image)

    def _log_scores(self, stage: str, scores: Mapping[str, float]) -> dict[str, float]:
        """Log scores under the names of a stage; gives them under these names."""
        named = {f"{stage}/{name}": score for name, score in scores.items()}
        # The counts are those of all processes already; the mean that sync_dist takes over equal values is harmless.
        for name, score in named.items():
            self.log(name, score, prog_bar=name.endswith("/miou"), sync_dist=self.trainer.world_size > 1)
        return named

    def _scores_of(self, counts: Tensor) -> dict[str, float]:
        """Scores from (N, C) counts; a class that occurs nowhere, or that the labels cannot tell, has none."""
        iou, names = region_iou(counts, self.label_sets), self.label_sets.names
        coarsest = coarsest_regions(counts, self.label_sets)
        merged = [i for i in coarsest if i >= len(self.label_sets.taxonomy)]
        shown = [i for i in [*range(len(self.label_sets.taxonomy)), *merged] if not iou[i].isnan()]
        scores = {
            "miou": float(iou[: len(self.label_sets.taxonomy)].nanmean()),
            "accuracy": accuracy(counts, self.label_sets),
        }
        if merged:
            scores["miou_merged"] = float(iou[coarsest].mean())
        return scores | {f"iou/{names[i]}": float(iou[i]) for i in shown}


def _beyond_pixels(scores: Mapping[str, Any]) -> dict[str, float]:
    """Scores of edges, thin classes and calibration, by names for a log; what has none is left out."""
    named = {"boundary_iou": scores["boundary_iou"], "ece": scores["ece"]}
    named |= {f"boundary_f1_{tolerance}": score for tolerance, score in scores["boundary_f1"].items()}
    for class_name, thin in scores["thin"].items():
        named |= {f"thin_{name}/{class_name}": score for name, score in thin.items()}
    return {name: score for name, score in named.items() if score is not None}

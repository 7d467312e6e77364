"""The training task: network, loss, optimizer and scores as a LightningModule."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.checkpoint import HEADER_KEY, check_same_model, check_same_recipe, check_same_weights
from roadseg.data.sampling import derive_seed
from roadseg.errors import ConfigError, TaxonomyError
from roadseg.label_sets import LabelSets
from roadseg.losses import LabelSetCrossEntropy
from roadseg.metrics.confusion import ConfusionMatrix
from roadseg.metrics.regions import accuracy, coarsest_regions, region_iou
from roadseg.models.zoo import build_model, check_options
from roadseg.provenance import software_versions
from roadseg.schedules import warmup_poly
from roadseg.taxonomy import Taxonomy


class SegmentationTask(LightningModule):
    """Trains and scores a segmentation network.

    Args:
        taxonomy: the classes; the command line takes them from the data.
        backbone: one of `roadseg.list_backbones()`.
        decoder: one of `roadseg.list_decoders()`.
        decoder_options: options of the decoder, for example width.
        backbone_options: variations of the backbone, for example padding: mask.
        pretrained: weights to start the backbone from: true for its published ImageNet weights, a name on the model
            hub, or a file.
        grad_checkpointing: keep less of the backbone for the backward pass and compute it again: less memory, more
            time.
        drop_path_rate: stochastic depth of the backbone's last block.
        lr: peak learning rate of the backbone.
        decoder_lr_multiple: the decoder's learning rate, as a multiple of `lr`.
        weight_decay: of matrices and kernels; norms and biases have none.
        warmup_steps: steps of linear warm-up.
        poly_power: exponent of the decay that follows.
        class_weights: class name to loss weight; classes not named have 1.
        label_smoothing: share of the loss that pulls towards all classes alike.
        label_sets: meaning of the ids in masks; the command line takes it from the data. None: every id is a class.
        seed: of dropout and stochastic depth; the command line takes it from seed_everything.

    Raises:
        ConfigError: when a value cannot work.
        ModelError: when a name or option of the network is wrong.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        backbone: str = "twins_svt_small",
        decoder: str = "linear_concat",
        decoder_options: dict[str, Any] | None = None,
        backbone_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        grad_checkpointing: bool = False,
        drop_path_rate: float = 0.2,
        lr: float = 6e-5,
        decoder_lr_multiple: float = 10.0,
        weight_decay: float = 0.01,
        warmup_steps: int = 1500,
        poly_power: float = 0.9,
        class_weights: dict[str, float] | None = None,
        label_smoothing: float = 0.0,
        label_sets: LabelSets | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"model.label_smoothing is {label_smoothing}; use 0 up to, but not, 1")
        _check_above_zero(lr=lr, decoder_lr_multiple=decoder_lr_multiple, poly_power=poly_power)
        _check_not_negative(weight_decay=weight_decay, warmup_steps=warmup_steps)
        self.taxonomy = taxonomy
        # What the network is, and how it is trained; a checkpoint carries both.
        self.architecture: dict[str, Any] = {
            "backbone": backbone,
            "decoder": decoder,
            "num_classes": len(taxonomy),
            "options": dict(decoder_options or {}),
        }
        if backbone_options:
            self.architecture["backbone_options"] = dict(backbone_options)
        self.recipe: dict[str, Any] = {
            "pretrained": pretrained,
            "drop_path_rate": drop_path_rate,
            "lr": lr,
            "decoder_lr_multiple": decoder_lr_multiple,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "poly_power": poly_power,
            "class_weights": dict(class_weights or {}),
            "label_smoothing": label_smoothing,
            "seed": seed,
        }
        check_options(backbone, decoder, backbone_options, decoder_options)
        self.network = build_model(
            backbone,
            decoder,
            len(taxonomy),
            drop_path_rate=drop_path_rate,
            pretrained=pretrained,
            backbone_options=backbone_options,
            **self.architecture["options"],
        )
        features: Any = self.network.backbone
        if features.load_report is not None:
            rank_zero_info(f"backbone: {features.load_report}")
        features.set_grad_checkpointing(grad_checkpointing)
        self.label_sets = label_sets or LabelSets(taxonomy)
        self.loss = LabelSetCrossEntropy(self.label_sets, _weights(class_weights, taxonomy), label_smoothing)
        self._scores: dict[str, float] = {}
        """Of the last validation, with the epoch and step after which it was run."""
        self._confusion = {stage: ConfusionMatrix(len(taxonomy), len(self.label_sets)) for stage in ("val", "test")}

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, H, W) of images (B, 3, H, W) RGB in 0..255."""
        return self.network(image)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and stochastic depth from (seed, step, rank): checkpoints hold no generator state."""
        torch.manual_seed(derive_seed(self.recipe["seed"], self.global_step, batch_idx, self.global_rank))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = self.loss(self(batch["image"]), batch["mask"])
        if self.global_step % self.trainer.log_every_n_steps == 0:  # a GPU waits for the answer
            self._refuse_divergence(loss)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["name"]))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(batch["name"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count a batch of the validation split."""
        self._count("val", batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count a batch of the test split."""
        self._count("test", batch)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Masks (B, H, W) uint8 of class ids, with the images' paths."""
        return {"mask": self._full_precision_logits(batch["image"]).argmax(1).to(torch.uint8), "name": batch["name"]}

    def on_validation_epoch_start(self) -> None:
        """Start counting the validation split."""
        self._confusion["val"].reset()

    def on_validation_epoch_end(self) -> None:
        """Score the validation split."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Start counting the test split."""
        self._confusion["test"].reset()

    def on_test_epoch_end(self) -> None:
        """Score the test split."""
        self._log_scores("test")

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with linear warm-up and polynomial decay, both by step."""
        optimizer = torch.optim.AdamW(list(self._parameter_groups()), lr=self.recipe["lr"])
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ConfigError(
                "the learning rate decays to the end of the run: set trainer.max_epochs or trainer.max_steps"
            )
        factor = warmup_poly(int(total_steps), self.recipe["warmup_steps"], self.recipe["poly_power"])
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights are and how they were trained."""
        checkpoint[HEADER_KEY] = {
            "architecture": self.architecture,
            "recipe": self.recipe,
            "taxonomy": self.taxonomy.to_dict(),
            "data": self._describe_data(),
            "software": software_versions(),
            "scores": self._scores,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, or, when training goes on, of another recipe.

        Raises:
            CheckpointError: naming each value that differs.
        """
        check_same_model(checkpoint, self.architecture, self.taxonomy)
        check_same_weights(checkpoint, self.state_dict())
        if self._trainer is not None and self.trainer.training:
            check_same_recipe(checkpoint, self.recipe)
            self._scores = checkpoint[HEADER_KEY].get("scores", {})

    def _refuse_divergence(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise ConfigError(
                f"the loss is {loss.item()} at step {self.global_step}: the training diverged; lower model.lr, which "
                f"is {self.recipe['lr']}"
            )

    def _count(self, stage: str, batch: Mapping[str, Any]) -> None:
        logits, mask = self._full_precision_logits(batch["image"]), batch["mask"]
        if logits.shape[2:] != mask.shape[1:]:  # the frames are segmented at another scale; the labels' own is scored
            logits = F.interpolate(logits, mask.shape[1:], mode="bilinear")
        self._confusion[stage].update(logits.argmax(1), mask)

    def _full_precision_logits(self, image: Tensor) -> Tensor:
        """Logits in float32, also where training runs in bf16: scores are those of the model as it will be served."""
        with torch.autocast(image.device.type, enabled=False):
            return self(image)

    def _log_scores(self, stage: str) -> None:
        scores = {f"{stage}/{name}": score for name, score in self._scores_of(self._confusion[stage].summed()).items()}
        # The counts are those of all processes already; the mean that sync_dist takes over equal values is harmless.
        for name, score in scores.items():
            self.log(name, score, prog_bar=name.endswith("/miou"), sync_dist=self.trainer.world_size > 1)
        if stage == "val" and not self.trainer.sanity_checking:
            self._scores = {"epoch": self.current_epoch, "global_step": self.global_step, **scores}

    def _scores_of(self, counts: Tensor) -> dict[str, float]:
        """Scores from (N, C) counts; a class that occurs nowhere, or that the labels cannot tell, has none."""
        iou, names = region_iou(counts, self.label_sets), self.label_sets.names
        coarsest = coarsest_regions(counts, self.label_sets)
        merged = [i for i in coarsest if i >= len(self.taxonomy)]
        shown = [i for i in [*range(len(self.taxonomy)), *merged] if not iou[i].isnan()]
        scores = {"miou": float(iou[: len(self.taxonomy)].nanmean()), "accuracy": accuracy(counts, self.label_sets)}
        if merged:
            scores["miou_merged"] = float(iou[coarsest].mean())
        return scores | {f"iou/{names[i]}": float(iou[i]) for i in shown}

    def _describe_data(self) -> dict[str, Any]:
        data = getattr(self._trainer, "datamodule", None)
        return data.describe() if data is not None else {}

    def _parameter_groups(self) -> Iterator[dict[str, Any]]:
        multiples = {"backbone": 1.0, "decoder": self.recipe["decoder_lr_multiple"]}
        for name, multiple in multiples.items():
            module, lr = self.network.get_submodule(name), self.recipe["lr"] * multiple
            decayed, plain = _split_parameters(module)
            yield {"name": name, "params": decayed, "lr": lr, "weight_decay": self.recipe["weight_decay"]}
            yield {"name": f"{name} norms and biases", "params": plain, "lr": lr, "weight_decay": 0.0}


def _split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and kernels, which decay; vectors (biases and the weights of norms), which do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]


def _weights(class_weights: Mapping[str, float] | None, taxonomy: Taxonomy) -> Tensor | None:
    if not class_weights:
        return None
    weights = torch.ones(len(taxonomy))
    for name, weight in class_weights.items():
        try:
            index = taxonomy.id_of(name)
        except TaxonomyError as error:
            raise ConfigError(f"model.class_weights: {error}") from error
        _check_not_negative(**{f"class_weights.{name}": weight})
        weights[index] = weight
    if not weights.any():
        raise ConfigError("model.class_weights are all 0, so that nothing would be learned; give one class more than 0")
    return weights


def _check_above_zero(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"model.{name} is {value}; use a finite value above 0")


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ConfigError(f"model.{name} is {value}; use 0 or a finite value above it")

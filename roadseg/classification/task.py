"""The classification task: network, mixing, loss, optimizer and scores as a LightningModule."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from timm.data import Mixup
from timm.optim import param_groups_weight_decay
from torch import Tensor
from torch.nn import functional as F

from roadseg.checkpoint import HEADER_KEY, check_same_classifier, check_same_recipe, check_same_weights, end_epoch
from roadseg.classification.topk import TopKCounter
from roadseg.data.sampling import derive_seed
from roadseg.divergence import refuse_divergence
from roadseg.errors import ConfigError
from roadseg.models.zoo import build_classifier
from roadseg.provenance import software_versions
from roadseg.schedules import warmup_cosine

_UNDECAYED = ("backbone.pos_block.*",)
"""Besides norms and biases: the positional encodings (PEG, arXiv 2102.10882), as in the authors' code."""


class ClassificationTask(LightningModule):
    """Trains and scores a backbone as an image classifier.

    The defaults are those of Twins-SVT-S and Twins-PCPVT-S in the paper (arXiv 2104.13840).

    Args:
        class_names: the classes; the command line takes them from the data.
        backbone: a Twins, or one of `halonet_h0` to `halonet_h7`.
        backbone_options: variations of the backbone.
        pretrained: weights to start from: true for published ImageNet weights, a name on the hub, or a file.
        grad_checkpointing: keep less for the backward pass and compute it again: less memory, more time.
        drop_path_rate: stochastic depth of the last block; the paper has 0.2, 0.3, 0.5 for small, base, large.
        lr: peak learning rate, for the total batch size at hand.
        weight_decay: of matrices and kernels; norms, biases and positional encodings have none.
        warmup_epochs: epochs of linear warm-up, before the cosine decay to 0.
        mixup: mixup's alpha (arXiv 1710.09412); 0 for none.
        cutmix: CutMix's alpha (arXiv 1905.04899); 0 for none. With both, each batch gets one of them by chance.
        label_smoothing: share of the target that is spread over all classes.
        seed: of mixing, dropout and stochastic depth; the command line takes it from seed_everything.

    Raises:
        ConfigError: when a value cannot work.
        ModelError: when a name or option of the network is wrong.
    """

    def __init__(
        self,
        class_names: list[str],
        backbone: str = "twins_svt_small",
        backbone_options: dict[str, Any] | None = None,
        pretrained: bool | str = False,
        grad_checkpointing: bool = False,
        drop_path_rate: float = 0.2,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_epochs: float = 5.0,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        label_smoothing: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < lr < math.inf:
            raise ConfigError(f"model.lr is {lr}; use a finite value above 0")
        _check_not_negative(weight_decay=weight_decay, warmup_epochs=warmup_epochs, mixup=mixup, cutmix=cutmix)
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"model.label_smoothing is {label_smoothing}; use a value from 0 up to, but not, 1")
        self.class_names = list(class_names)
        # What the network is, and how it is trained; a checkpoint carries both.
        self.architecture: dict[str, Any] = {
            "backbone": backbone,
            "num_classes": len(class_names),
            "backbone_options": dict(backbone_options or {}),
        }
        self.recipe: dict[str, Any] = {
            "pretrained": pretrained,
            "drop_path_rate": drop_path_rate,
            "lr": lr,
            "weight_decay": weight_decay,
            "warmup_epochs": warmup_epochs,
            "mixup": mixup,
            "cutmix": cutmix,
            "label_smoothing": label_smoothing,
            "seed": seed,
        }
        self.network = build_classifier(**self.architecture, drop_path_rate=drop_path_rate, pretrained=pretrained)
        features: Any = self.network.backbone
        if features.load_report is not None:
            rank_zero_info(f"backbone: {features.load_report}")
        features.set_grad_checkpointing(grad_checkpointing)
        self._mixup = _mixup(self.recipe, len(class_names))
        self._scores: dict[str, float] = {}
        """Of the last validation, with the epoch and step after which it was run."""
        self._counter = TopKCounter()

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (B, C) of images (B, 3, H, W) RGB in 0..255."""
        return self.network(image)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and stochastic depth from (seed, step, rank): checkpoints hold no generator state."""
        torch.manual_seed(self._batch_seed(batch_idx))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = self._loss(batch, batch_idx)
        if self.global_step % self.trainer.log_every_n_steps == 0:  # a GPU waits for the answer
            refuse_divergence({"loss": loss}, self.global_step, self.recipe["lr"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(batch["label"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting the validation split."""
        self._counter.reset()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Count a batch; in float32, also where training runs in bf16."""
        with torch.autocast(batch["image"].device.type, enabled=False):
            self._counter.update(self(batch["image"]), batch["label"])

    def on_validation_epoch_end(self) -> None:
        """Score the validation split: top-1 and top-5 accuracy."""
        scores = {f"val/{name}": accuracy for name, accuracy in self._counter.accuracies().items()}
        # The counts are those of all processes already; the mean that sync_dist takes over equal values is harmless.
        self.log_dict(scores, prog_bar=True, sync_dist=self.trainer.world_size > 1)
        if not self.trainer.sanity_checking:
            self._scores = {"epoch": self.current_epoch, "global_step": self.global_step, **scores}

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with linear warm-up and cosine decay, both by step."""
        groups = param_groups_weight_decay(self.network, self.recipe["weight_decay"], no_weight_decay_list=_UNDECAYED)
        optimizer = torch.optim.AdamW(groups, lr=self.recipe["lr"])
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ConfigError(
                "the learning rate decays to the end of the run: set trainer.max_epochs or trainer.max_steps"
            )
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        factor = warmup_cosine(int(total_steps), round(self.recipe["warmup_epochs"] * steps_per_epoch))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights are and how they were trained."""
        data = getattr(self._trainer, "datamodule", None)
        checkpoint[HEADER_KEY] = {
            "task": "classification",
            "architecture": self.architecture,
            "class_names": self.class_names,
            "recipe": self.recipe,
            "data": data.describe() if data is not None else {},
            "software": software_versions(),
            "scores": self._scores,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another classifier, or, when training goes on, of another recipe.

        Raises:
            CheckpointError: naming each value that differs.
        """
        check_same_classifier(checkpoint, self.architecture, self.class_names)
        check_same_weights(checkpoint, self.state_dict())
        if self._trainer is not None and self.trainer.training:
            check_same_recipe(checkpoint, self.recipe)
            end_epoch(checkpoint)
            self._scores = checkpoint[HEADER_KEY].get("scores", {})

    def _batch_seed(self, batch_idx: int) -> int:
        return derive_seed(self.recipe["seed"], self.global_step, batch_idx, self.global_rank)

    def _loss(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Cross-entropy against smoothed labels, or against the mixed ones, into which timm puts the smoothing."""
        if self._mixup is None:
            logits = self(batch["image"]).float()
            return F.cross_entropy(logits, batch["label"], label_smoothing=self.recipe["label_smoothing"])
        if len(batch["label"]) % 2:
            raise ConfigError(
                f"a batch of {len(batch['label'])} images cannot be mixed, which is done in pairs: make "
                "data.total_batch_size an even multiple of processes x trainer.accumulate_grad_batches, or set "
                "model.mixup and model.cutmix to 0"
            )
        with isolate_rng(include_cuda=False):  # timm draws from NumPy's global generator
            np.random.seed(self._batch_seed(batch_idx))
            image, target = self._mixup(batch["image"].to(torch.float32, copy=True), batch["label"])
        return F.cross_entropy(self(image).float(), target)


def _mixup(recipe: Mapping[str, Any], num_classes: int) -> Mixup | None:
    if not recipe["mixup"] and not recipe["cutmix"]:
        return None
    return Mixup(
        mixup_alpha=recipe["mixup"],
        cutmix_alpha=recipe["cutmix"],
        label_smoothing=recipe["label_smoothing"],
        num_classes=num_classes,
    )


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ConfigError(f"model.{name} is {value}; use 0 or a finite value above it")

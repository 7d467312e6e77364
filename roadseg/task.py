"""The training task: network, loss, optimizer and scores as a LightningModule."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from roadseg.checkpoint import HEADER_KEY, check_same_model, check_same_recipe, check_same_weights, end_epoch
from roadseg.class_weights import class_weight_tensor, parse_class_weights, weights_of_training_data
from roadseg.coarse_start import check_coarse_steps, check_steps_left, halve
from roadseg.data.sampling import derive_seed
from roadseg.distillation import load_distillation
from roadseg.divergence import refuse_divergence
from roadseg.errors import ConfigError
from roadseg.fine_tuning import check_one_start, check_source, start_from
from roadseg.inference.bundled import model_path
from roadseg.inference.package import read_model_file
from roadseg.label_sets import LabelSets
from roadseg.losses import WeightedSum, build_loss, parse_terms
from roadseg.models.auxiliary import auxiliary_settings, build_auxiliary
from roadseg.models.zoo import build_model, check_options
from roadseg.optimisation import check_rates, parameter_groups
from roadseg.provenance import software_versions
from roadseg.schedules import warmup_poly
from roadseg.scored_task import ScoredTask
from roadseg.seen_validation import warn_of_seen_validation
from roadseg.taxonomy import Taxonomy

_AUXILIARY = "auxiliary."
"""Prefix of the weights that are trained and never scored."""

_CROSS_ENTROPY = ({"name": "cross_entropy"},)


class SegmentationTask(ScoredTask):
    """Trains and scores a segmentation network.

    Args:
        taxonomy: the classes; the command line takes them from the data.
        backbone: one of `roadseg.list_backbones()`.
        decoder: one of `roadseg.list_decoders()`.
        decoder_options: options of the decoder, for example width.
        backbone_options: variations of the backbone, for example padding: mask.
        pretrained: weights to start the backbone from: true for its published ImageNet weights, a name on the model
            hub, or a file.
        init_from: model file, or bundled model's name, to start from, also of other classes or of another decoder; see
            `roadseg.fine_tuning`. A run that is resumed does not read it.
        auxiliary: a second head in training: the `feature` that it sees (2), its `channels` (64) and the `weight` (0.4)
            of its cross-entropy; null for none. See `roadseg.models.auxiliary`.
        grad_checkpointing: keep less of the backbone for the backward pass and compute it again: less memory, more
            time.
        channels_last: keep the convolutions' kernels, and with them their maps, with channels innermost.
        compile: train with torch.compile; crops have one size, so that it compiles once (twice with coarse steps).
            Scores come from the network as it is.
        drop_path_rate: stochastic depth of the backbone's last block.
        lr: peak learning rate of the backbone.
        decoder_lr_multiple: the decoder's learning rate, as a multiple of `lr`.
        layer_decay: factor of the learning rate from each layer of the backbone to the one below it; 1 is off. See
            `roadseg.optimisation`.
        weight_decay: of matrices and kernels; norms and biases have none.
        no_decay: modules that have none either, for example pos_block.
        warmup_steps: steps of linear warm-up.
        poly_power: exponent of the decay that follows.
        coarse_steps: so many first steps see images and labels at half their size, which costs a quarter; see
            `roadseg.coarse_start`.
        loss: the terms of the loss, each with its name, its weight and its own options; null is cross_entropy. See
            `roadseg.losses`.
        class_weights: class name to loss weight, classes not named having 1; or a rule by which they follow from the
            training data: inverse_log, inverse_sqrt or median_frequency. See `roadseg.data.class_shares`.
        label_smoothing: share of the loss that pulls towards all classes alike.
        distillation: the larger model to learn from beside the labels: its model file as `teacher`, and the other
            settings of `roadseg.distillation.DistillationSettings`; null for none.
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
        init_from: str | None = None,
        auxiliary: dict[str, Any] | None = None,
        grad_checkpointing: bool = False,
        channels_last: bool = False,
        compile: bool = False,
        drop_path_rate: float = 0.2,
        lr: float = 6e-5,
        decoder_lr_multiple: float = 10.0,
        layer_decay: float = 1.0,
        weight_decay: float = 0.01,
        no_decay: list[str] | None = None,
        warmup_steps: int = 1500,
        poly_power: float = 0.9,
        coarse_steps: int = 0,
        loss: list[dict[str, Any]] | None = None,
        class_weights: dict[str, float] | str | None = None,
        label_smoothing: float = 0.0,
        distillation: dict[str, Any] | None = None,
        label_sets: LabelSets | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_rates(lr, decoder_lr_multiple, layer_decay, weight_decay, warmup_steps, poly_power)
        check_one_start(pretrained, init_from)
        check_coarse_steps(coarse_steps)
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
            "init_from": init_from,
            "auxiliary": auxiliary_settings(auxiliary),
            "drop_path_rate": drop_path_rate,
            "lr": lr,
            "decoder_lr_multiple": decoder_lr_multiple,
            "layer_decay": layer_decay,
            "weight_decay": weight_decay,
            "no_decay": list(no_decay or []),
            "warmup_steps": warmup_steps,
            "poly_power": poly_power,
            "coarse_steps": coarse_steps,
            "loss": parse_terms(_CROSS_ENTROPY if loss is None else loss),
            "class_weights": parse_class_weights(class_weights),
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
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.compile_network = compile
        self._features, self._decode = self.network.features, self.network.decode
        self.label_sets = label_sets or LabelSets(taxonomy)
        self.auxiliary = build_auxiliary(self.recipe["auxiliary"], features.out_channels, len(taxonomy))
        weights = class_weight_tensor(class_weights, taxonomy)
        self.loss, self.auxiliary_loss = self._build_losses(weights)
        self.class_weights: dict[str, float] = {}
        """Those that a rule gives, by class name, once training has begun."""
        self.initialisation: dict[str, Any] | None = None
        """What was taken from `init_from`: an `InitialisationReport` in plain values."""
        self.distillation = load_distillation(distillation, self.label_sets)
        if self.distillation is not None:
            self.recipe["distillation"] = self.distillation.describe()
        self.score_with(self.label_sets)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, H, W) of images (B, 3, H, W) RGB in 0..255."""
        return self.network(image)

    def check_start(self) -> None:
        """Look at the model file to start from, if any: a fit that is not resumed would refuse it behind its data.

        Raises:
            ConfigError: when it holds another backbone.
            ModelFileError: when it cannot be used.
        """
        if self.recipe["init_from"] is not None:
            check_source(self.recipe["init_from"], self.network, self.architecture)

    def on_fit_start(self) -> None:
        """Take from the training data, and from a model file, what the recipe takes from them.

        Raises:
            ConfigError: when the run has no data module of ours, or the file holds another backbone.
            ModelFileError: when the file cannot be used.
        """
        if self.compile_network:  # not before: averaging has copied this module by now, and cannot copy compiled steps
            self._features = torch.compile(self.network.features, dynamic=False)
            self._decode = torch.compile(self.network.decode, dynamic=False)
        rule, source = self.recipe["class_weights"], self.recipe["init_from"]
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(rule, str):
            self.class_weights = weights_of_training_data(rule, data)
            self._weigh_classes(class_weight_tensor(self.class_weights, self.taxonomy))
        if source is not None and self.trainer.ckpt_path is None:
            report = start_from(source, self.network, self.architecture, self.taxonomy)
            rank_zero_info(str(report))
            self.initialisation = report.to_dict()
            header = read_model_file(model_path(source)).header
            warn_of_seen_validation("model.init_from", source, header, data)
        if self.distillation is not None and self.distillation.header is not None:
            teacher = self.distillation.settings.teacher
            warn_of_seen_validation("model.distillation.teacher", teacher, self.distillation.header, data)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and stochastic depth from (seed, step, rank): checkpoints hold no generator state."""
        torch.manual_seed(derive_seed(self.recipe["seed"], self.global_step, batch_idx, self.global_rank))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        image, mask = batch["image"], batch["mask"]
        if self.global_step < self.recipe["coarse_steps"]:
            image, mask = halve(image, mask)
        features, size = self._features(image), (image.shape[-2], image.shape[-1])
        logits = self._decode(features, size)
        terms = self.loss.terms(logits, mask)
        if self.auxiliary is not None:
            auxiliary_loss = self.auxiliary_loss(self.auxiliary(features, size), mask)
            terms["auxiliary"] = self.recipe["auxiliary"]["weight"] * auxiliary_loss
        if self.distillation is not None:
            terms["distillation"] = self.distillation(image, logits, mask, self.global_step)
        loss = torch.stack([*terms.values()]).sum()
        if self.global_step % self.trainer.log_every_n_steps == 0:  # a GPU waits for the answer
            refuse_divergence(terms, self.global_step, self.recipe["lr"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["name"]))
        if len(terms) > 1:
            named = {f"train/loss/{name}": term for name, term in terms.items()}
            self.log_dict(named, batch_size=len(batch["name"]))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"], batch_size=len(batch["name"]))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with linear warm-up and polynomial decay, both by step."""
        parts = {"backbone": self.network.backbone, "decoder": self.network.decoder}
        if self.auxiliary is not None:
            parts["auxiliary"] = self.auxiliary
        names = ("lr", "decoder_lr_multiple", "weight_decay", "layer_decay", "no_decay")
        groups = parameter_groups(parts, **{name: self.recipe[name] for name in names})
        optimizer = torch.optim.AdamW(groups, lr=self.recipe["lr"])
        total_steps = self.trainer.estimated_stepping_batches
        if math.isinf(total_steps):
            raise ConfigError(
                "the learning rate decays to the end of the run: set trainer.max_epochs or trainer.max_steps"
            )
        check_steps_left(self.recipe["coarse_steps"], int(total_steps))
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
            "class_weights": self.class_weights,
            "initialisation": self.initialisation,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, or, when training goes on, of another recipe.

        Raises:
            CheckpointError: naming each value that differs.
        """
        check_same_model(checkpoint, self.architecture, self.taxonomy)
        training = self._trainer is not None and self.trainer.training
        if training:
            check_same_recipe(checkpoint, self.recipe)
            end_epoch(checkpoint)
            self._scores = checkpoint[HEADER_KEY].get("scores", {})
            self.initialisation = checkpoint[HEADER_KEY].get("initialisation")
        else:
            held, own = checkpoint["state_dict"], self.state_dict()
            scored = {name: tensor for name, tensor in held.items() if not name.startswith(_AUXILIARY)}
            checkpoint["state_dict"] = scored | {k: v for k, v in own.items() if k.startswith(_AUXILIARY)}
        check_same_weights(checkpoint, self.state_dict())

    def _describe_data(self) -> dict[str, Any]:
        data = getattr(self._trainer, "datamodule", None)
        return data.describe() if data is not None else {}

    def _build_losses(self, class_weights: Tensor | None) -> Iterator[WeightedSum]:
        """The loss of the logits, and that of the auxiliary head's."""
        for terms in (self.recipe["loss"], _CROSS_ENTROPY):
            yield build_loss(terms, self.label_sets, class_weights, self.recipe["label_smoothing"])

    def _weigh_classes(self, class_weights: Tensor | None) -> None:
        """Put weights into the losses in place: averaging has copied them, buffer by buffer, already."""
        for loss, weighted in zip((self.loss, self.auxiliary_loss), self._build_losses(class_weights), strict=True):
            for held, new in zip(loss.buffers(), weighted.buffers(), strict=True):
                held.copy_(new)

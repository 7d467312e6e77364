"""Distillation (arXiv 1503.02531): a larger model, the teacher, tells the student what the labels leave open.

With z the student's logits of a pixel, t the teacher's, and T the temperature, a pixel costs

    T^2 KL(q || p),   q = softmax(t / T),   p = softmax(z / T),

and a batch the mean over the pixels that are taught; 0 where none is. The teacher sees the student's own crop, with its
augmentation, as arXiv 2106.05237 recommends, and at the crop's scale: an inference scale in its model file is for whole
images, and is not applied to crops.

*Labels of several classes.* Where a label says {road, lane_marking}, the loss of the labels asks for one of the two and
does not care which; the teacher knows. With `respect_labels` both distributions are restricted to the set and
renormalised there, q_c = exp(t_c / T) / sum over s in S of exp(t_s / T) and p_c alike. So the teacher resolves what the
label leaves open, and where it contradicts the label, the label wins. A pixel to whose set the teacher gives less than
`LEAST_MASS` (at temperature 1) is left out: the proportions within a set that it does not believe in mean nothing.
Labels of one class leave nothing open; there all classes are compared, since what the teacher takes a thing for
*besides* is what distillation hands on, and the loss of the labels corrects its errors.

*Ignored pixels* are not trained on, here neither: they may be padding, or the camera's own car. With `ignored_pixels`
the teacher teaches there, over all classes, which is for pixels that are unlabelled rather than unusable.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from roadseg.errors import ConfigError
from roadseg.inference.bundled import model_path
from roadseg.inference.licence import tell_licence
from roadseg.inference.package import ModelHeader, read_model_file
from roadseg.inference.torch_engine import network_of
from roadseg.label_sets import LabelSets
from roadseg.losses.sets import full_precision
from roadseg.taxonomy import IGNORE_INDEX, Taxonomy

LEAST_MASS = 0.01
"""Probability that a teacher gives to a label's classes together, below which it is not asked which of them it is."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 100.0
"""Below, the teacher's choice is all that is left; above, its classes are all alike."""


@dataclass(frozen=True)
class DistillationSettings:
    """The setting `model.distillation`.

    Attributes:
        teacher: model file (.safetensors), or the name of a bundled model.
        weight: of the term in the loss.
        temperature: T, 0.1 to 100; above 1 it brings out how likely the teacher holds the classes that it does not
            choose.
        start_step: optimizer step from which the teacher is asked.
        respect_labels: whether the teacher chooses only among the classes of labels of several.
        ignored_pixels: whether the teacher teaches where the labels are ignored.

    Raises:
        ConfigError: when a value cannot work.
    """

    teacher: str
    weight: float = 1.0
    temperature: float = 2.0
    start_step: int = 0
    respect_labels: bool = True
    ignored_pixels: bool = False

    def __post_init__(self) -> None:
        """Check each value."""
        if not isinstance(self.teacher, str) or not self.teacher:
            raise ConfigError(
                f"model.distillation.teacher is {self.teacher!r}; name the teacher's model file, which `roadseg "
                "package CKPT -o FILE` makes: --model.distillation.teacher FILE"
            )
        if not _is_number(self.weight) or not 0 < self.weight < math.inf:
            raise ConfigError(f"model.distillation.weight is {self.weight!r}; use a finite number above 0")
        if not _is_number(self.temperature) or not MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise ConfigError(
                f"model.distillation.temperature is {self.temperature!r}; use {MIN_TEMPERATURE:g} to "
                f"{MAX_TEMPERATURE:g}"
            )
        if type(self.start_step) is not int or self.start_step < 0:
            raise ConfigError(f"model.distillation.start_step is {self.start_step!r}; use a whole number, 0 or more")
        for name in ("respect_labels", "ignored_pixels"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"model.distillation.{name} is {getattr(self, name)!r}; use true or false")

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> "DistillationSettings":
        """Settings from plain values.

        Raises:
            ConfigError: when one is unknown or cannot work.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                raise ConfigError(f"model.distillation: no setting '{name}'; {hint}")
        return cls(**{"teacher": "", **settings})


class DistillationLoss(nn.Module):
    """T^2 KL(teacher || student), averaged over the pixels that are taught; this module's docstring has the formulas.

    Args:
        label_sets: meaning of the ids in masks.
        temperature: T.
        respect_labels: see `DistillationSettings`.
        ignored_pixels: see `DistillationSettings`.
    """

    scope: Tensor

    def __init__(
        self,
        label_sets: LabelSets,
        temperature: float = 2.0,
        respect_labels: bool = True,
        ignored_pixels: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.restricts = respect_labels and len(label_sets.merged) > 0
        self.register_buffer("scope", compared_classes(label_sets, respect_labels, ignored_pixels), persistent=False)

    def forward(self, logits: Tensor, teacher_logits: Tensor, mask: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: the student's, (B, C, H, W), any floating type; computed in float32 or better.
            teacher_logits: (B, C, H, W); no gradient goes to them.
            mask: (B, H, W) int64 of set ids; 255 is ignored.

        Returns:
            A scalar; 0 where no pixel is taught.
        """
        believed = full_precision(teacher_logits.detach())
        student, teacher = full_precision(logits) / self.temperature, believed / self.temperature
        taught = self.scope.any(1)[mask]
        if self.restricts:
            inside = self.scope[mask].permute(0, 3, 1, 2)
            mass = (believed.softmax(1) * inside).sum(1)
            taught = taught & ((mass >= LEAST_MASS) | inside.all(1))
            # Not -inf: what is outside costs 0 times a finite number, where -inf less -inf would be NaN. Behind the
            # division, which would make it infinite.
            lowest = torch.finfo(student.dtype).min / 4
            student, teacher = student.masked_fill(~inside, lowest), teacher.masked_fill(~inside, lowest)
        log_p, log_q = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
        divergence = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)
        return self.temperature**2 * (divergence * taught).sum() / taught.sum().clamp(min=1)


class Distillation:
    """The distillation term of a training's loss.

    No `nn.Module`: the teacher is neither trained nor averaged nor saved, nor does it travel between processes, so that
    it must not be found among a task's parts.

    Args:
        teacher: frozen here, and put into evaluation mode.
        class_order: for each class of the student, its number in the teacher's logits.
        label_sets: meaning of the ids in masks.
        settings: see `DistillationSettings`.
        digest: SHA-256 of the teacher's model file, in hexadecimal.
        header: of the teacher's model file, which says what it was trained on.
    """

    def __init__(
        self,
        teacher: nn.Module,
        class_order: Sequence[int],
        label_sets: LabelSets,
        settings: DistillationSettings,
        digest: str = "",
        header: ModelHeader | None = None,
    ) -> None:
        self.settings, self.digest, self.header = settings, digest, header
        self._teacher = teacher.eval().requires_grad_(False)
        self._class_order = torch.tensor(class_order)
        self._loss = DistillationLoss(
            label_sets, settings.temperature, settings.respect_labels, settings.ignored_pixels
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Distillation":
        """Itself: averaging copies the task, and nothing in here is ever trained."""
        return self

    def describe(self) -> dict[str, Any]:
        """Plain values for a recipe; the teacher by its digest, so that it may be moved but not exchanged."""
        return {**asdict(self.settings), "teacher": f"sha256:{self.digest}"}

    def __call__(self, image: Tensor, logits: Tensor, mask: Tensor, step: int) -> Tensor:
        """The term, weighed.

        Args:
            image: (B, 3, H, W) RGB in 0..255, as the student saw it.
            logits: the student's, (B, C, H, W).
            mask: (B, H, W) int64 of set ids; 255 is ignored.
            step: optimizer steps done so far.

        Returns:
            A scalar; 0 before `start_step`.
        """
        if step < self.settings.start_step:
            return torch.zeros((), device=logits.device)
        self._move_to(image.device)
        with torch.no_grad():
            taught = self._teacher(image)[:, self._class_order]
        return self.settings.weight * self._loss(logits, taught, mask)

    def _move_to(self, device: torch.device) -> None:
        """Lightning moves the task, of which this is no part."""
        if self._class_order.device != device:
            self._teacher.to(device)
            self._loss.to(device)
            self._class_order = self._class_order.to(device)


def load_distillation(settings: Mapping[str, Any] | None, label_sets: LabelSets) -> Distillation | None:
    """The distillation that a configuration asks for, with its teacher.

    Args:
        settings: of `model.distillation`; None for no distillation.
        label_sets: meaning of the ids in masks, and the student's classes.

    Raises:
        ConfigError: when a setting cannot work, or the teacher has other classes than the student.
        ModelFileError: when the teacher's file is missing, damaged or not a model file.
    """
    if settings is None:
        return None
    parsed = DistillationSettings.parse(settings)
    file = read_model_file(model_path(parsed.teacher))
    order = _class_order(label_sets.taxonomy, file.header.taxonomy, parsed.teacher)
    teacher = network_of(file)
    tell_licence(file)  # it may bind what is trained from it, too
    return Distillation(teacher, order, label_sets, parsed, file.digest, file.header)


def compared_classes(label_sets: LabelSets, respect_labels: bool = True, ignored_pixels: bool = False) -> Tensor:
    """Over which classes teacher and student are compared at a pixel of each set id.

    Args:
        label_sets: meaning of the ids.
        respect_labels: whether labels of several classes restrict the comparison to them.
        ignored_pixels: whether ignored pixels are taught, over all classes.

    Returns:
        (256, C) bool; pixels of an id without any class are not taught.
    """
    scope = torch.zeros(IGNORE_INDEX + 1, len(label_sets.taxonomy), dtype=torch.bool)
    scope[: len(label_sets)] = True
    if respect_labels:
        for i, members in enumerate(label_sets.members):
            if len(members) > 1:
                scope[i] = False
                scope[i, list(members)] = True
    scope[IGNORE_INDEX] = ignored_pixels
    return scope


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _class_order(student: Taxonomy, teacher: Taxonomy, path: str) -> list[int]:
    missing = [name for name in student.names if name not in teacher.names]
    surplus = [name for name in teacher.names if name not in student.names]
    if missing or surplus:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"adds {', '.join(surplus)}"] * bool(surplus)
        raise ConfigError(
            f"model.distillation.teacher: {path} has other classes than the student: it {' and '.join(parts)}. Train "
            f"the teacher on taxonomy '{student.name}', or the student on '{teacher.name}' (data.taxonomy)"
        )
    return [teacher.id_of(name) for name in student.names]

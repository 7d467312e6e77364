"""The training command line: `fit`, `validate`, `test` and `predict` from a YAML file, on Lightning's own CLI."""

import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from roadseg.callbacks import MaskWriter, RampedEMA
from roadseg.checkpoint import read_checkpoint
from roadseg.classification.datamodule import ImageFolderDataModule
from roadseg.classification.task import ClassificationTask
from roadseg.data.datamodule import RoadDataModule
from roadseg.errors import ConfigError
from roadseg.task import SegmentationTask
from roadseg.training_config import chosen_task


@dataclass(frozen=True)
class TaskSpec:
    """What a value of the setting `task` stands for.

    Attributes:
        model: the LightningModule.
        data: its data module.
        from_data: attributes of the data module, and arguments of the model, that tell the classes.
        monitor: the score; the checkpoint with the highest is the best.
        commands: what can be done.
        example: a recipe, for messages.
    """

    model: type[LightningModule]
    data: type[LightningDataModule]
    from_data: tuple[str, ...]
    monitor: str
    commands: tuple[str, ...]
    example: str


TASKS = {
    "segmentation": TaskSpec(
        SegmentationTask,
        RoadDataModule,
        ("taxonomy", "label_sets"),
        "val/miou",
        ("fit", "validate", "test", "predict"),
        "configs/roadseg.yaml",
    ),
    "classification": TaskSpec(
        ClassificationTask,
        ImageFolderDataModule,
        ("class_names",),
        "val/top1",
        ("fit", "validate"),
        "configs/pretrain.yaml",
    ),
}

TRAINER_DEFAULTS = {
    "default_root_dir": "runs",
    "gradient_clip_val": 5.0,
    "log_every_n_steps": 10,
    # The data module brings samplers of its own; Lightning's pads the validation split with repeats.
    "use_distributed_sampler": False,
}


class SaveConfigOfRun(SaveConfigCallback):
    """Saves the full configuration beside a training run's logs; without a log folder it writes nothing."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Save the configuration when training starts."""
        if stage == "fit" and trainer.loggers:
            super().setup(trainer, pl_module, stage)


class TrainingParser(LightningArgumentParser):
    """Refuses arguments with one message in place of jsonargparse's pages of usage, and takes no abbreviations."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong with the arguments.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{message}\n`lightning fit --help` lists what there is") from ex


class RoadsegCLI(LightningCLI):
    """Lightning's command line with this project's tasks, data, checkpoints, averaging and logs.

    Args:
        task: one of `TASKS`.
        options: of LightningCLI.
    """

    def __init__(self, task: str, **options: Any) -> None:
        self._task, self._spec = task, TASKS[task]
        super().__init__(self._spec.model, self._spec.data, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the task, the run's name and the callbacks, and hand the data's classes to the task."""
        parser.add_argument("--task", default="segmentation", help=f"What is trained: {' or '.join(TASKS)}.")
        parser.add_argument(
            "--name", default=None, help="Name of the run's log folder; the config file's name if null."
        )
        for attribute in self._spec.from_data:
            parser.link_arguments(f"data.{attribute}", f"model.{attribute}", apply_on="instantiate")
        parser.add_lightning_class_args(RampedEMA, "ema")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint_best")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint_last")
        if "predict" in self._spec.commands:
            parser.add_lightning_class_args(MaskWriter, "mask_writer")
        parser.set_defaults(
            {
                "checkpoint_best.monitor": self._spec.monitor,
                "checkpoint_best.mode": "max",
                "checkpoint_best.filename": "best",
                "checkpoint_best.save_on_train_epoch_end": False,
                "checkpoint_best.enable_version_counter": False,
                "checkpoint_last.filename": "last",
                "checkpoint_last.save_on_train_epoch_end": True,
                "checkpoint_last.enable_version_counter": False,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, then refuse what the parser cannot know to be wrong, before anything is built."""
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        config = self.config[command]
        if command not in self._spec.commands:
            raise ConfigError(f"task {self._task} has no {command}; it has {', '.join(self._spec.commands)}")
        if not config.config:
            raise ConfigError(f"no configuration given; for example: lightning {command} -c {self._spec.example}")
        if config.task != self._task:  # chosen in a place that only the parser looks at
            raise ConfigError(f"task is '{config.task}'; choose it by --task, or in a file given by -c FILE")
        _check_seeds(config)
        _check_trainer(config.trainer)
        if config.ckpt_path:
            read_checkpoint(config.ckpt_path, resume=command == "fit", task=self._task)
        elif command != "fit":
            raise ConfigError(
                f"{command} needs trained weights: give --ckpt_path runs/NAME/version_N/checkpoints/best.ckpt"
            )

    def before_instantiate_classes(self) -> None:
        """Settle what depends on the machine, on the seed or on the command."""
        config = self.config[self.subcommand]
        if config.trainer.precision is None:
            config.trainer.precision = "bf16-mixed" if has_bf16(config.trainer.accelerator) else "32-true"
        if config.seed_everything is not False:
            config.data.seed = config.model.seed = config.seed_everything
        if self.subcommand == "predict":
            config.return_predictions = False  # the masks are written; kept, they would fill the memory

    def before_fit(self) -> None:
        """Refuse a model file that cannot be started from before the data is read; a resumed run needs none."""
        if isinstance(self.model, SegmentationTask) and not self.config[self.subcommand].ckpt_path:
            self.model.check_start()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add CSV and TensorBoard logs to a training run that chose no logger."""
        config = self.config[self.subcommand]
        if config.trainer.logger is None:
            kwargs["logger"] = self._loggers(config) if self.subcommand == "fit" else False
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
            raise ConfigError(f"trainer: {error}") from error

    def _loggers(self, config: Any) -> list[Any]:
        files = [Path(str(path)) for path in config.config or []]
        name = config.name or (files[-1].stem if files else "roadseg")
        # Both write into one folder, under names of their own; the second warns that the first has been there.
        warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
        board = TensorBoardLogger(config.trainer.default_root_dir, name, default_hp_metric=False)
        return [board, CSVLogger(config.trainer.default_root_dir, name, version=board.version)]


def has_bf16(accelerator: str) -> bool:
    """Whether the hardware that a trainer will use computes in bfloat16 itself, rather than emulating it."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        # Before torch 2.11 the processor was not described; float32 is always right.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return False


def main(argv: Sequence[str] | None = None) -> None:
    """Run `fit`, `validate`, `test` or `predict`.

    Args:
        argv: the arguments, by default those of this process.

    Raises:
        ConfigError: when an argument or a key of the YAML file is unknown or has a value of the wrong kind.
    """
    # Lightning looks for a state in the loader; here the data module holds it, and its sampler goes on where it
    # stopped.
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
    # What Lightning does inside, and what it advertises, is nothing that the user of a recipe can act upon.
    warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    arguments = sys.argv[1:] if argv is None else list(argv)
    task = chosen_task(arguments, TASKS, default="segmentation")
    try:
        RoadsegCLI(
            task,
            save_config_callback=SaveConfigOfRun,
            save_config_kwargs={"overwrite": True},
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=TrainingParser,
            auto_configure_optimizers=False,
            args=None if argv is None else arguments,
        )
    except (MisconfigurationException, OSError) as error:
        raise ConfigError(str(error)) from error


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "💡 Tip: " not in record.getMessage()


def _check_seeds(config: Any) -> None:
    seed = config.seed_everything
    if not isinstance(seed, bool) and not 0 <= seed < 2**32:
        raise ConfigError(f"seed_everything is {seed}; use 0 to {2**32 - 1}")
    for part in ("data", "model"):
        own = config[part].seed
        if seed is not False and own not in (0, seed):  # it would be overruled without a word
            raise ConfigError(f"{part}.seed is {own}, but seed_everything is {seed}; set seed_everything alone")


def _check_trainer(trainer: Any) -> None:
    if trainer.use_distributed_sampler:
        raise ConfigError("trainer.use_distributed_sampler is true; the data module has its own: set it to false")
    if trainer.check_val_every_n_epoch is not None and trainer.check_val_every_n_epoch < 1:
        raise ConfigError(f"trainer.check_val_every_n_epoch is {trainer.check_val_every_n_epoch}; use at least 1")

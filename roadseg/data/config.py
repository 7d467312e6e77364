"""The data section of a configuration file, for the commands that need data and no training."""

from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from roadseg.data.datamodule import RoadDataModule
from roadseg.errors import ConfigError
from roadseg.training_config import read_config_file


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message) from ex


def read_data_config(path: str | Path) -> RoadDataModule:
    """The data module that a configuration describes.

    Args:
        path: a training configuration, of which the section `data` is taken, or a file that holds that section alone.

    Raises:
        ConfigError: when the file is wrong, or describes no road data.
    """
    path = Path(path)
    parser = _Parser(exit_on_error=False)
    parser.add_class_arguments(RoadDataModule, "data")
    try:
        return parser.instantiate(parser.parse_object({"data": _data_section(path)})).data
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if str(path) in message else f"{path}: {message}") from error


def _data_section(path: Path) -> dict[str, Any]:
    content = read_config_file(path)
    if content.get("task", "segmentation") != "segmentation":
        raise ConfigError(f"its task is {content['task']}, which has no road data")
    section = content.get("data", content)
    if isinstance(section, str):
        return read_config_file(path.parent / section)
    if "model" in section or "trainer" in section:
        raise ConfigError("it has no section 'data'")
    seed = content.get("seed_everything", 0)
    return {"seed": seed, **section} if isinstance(seed, int) and not isinstance(seed, bool) else section

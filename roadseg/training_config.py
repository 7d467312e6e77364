"""What a training command's YAML files are checked for before the parser reads them."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from roadseg.errors import ConfigError


def chosen_task(arguments: Sequence[str], tasks: Collection[str], default: str) -> str:
    """The task that a command line chooses, by `--task` or in its configuration files, of which each is checked.

    It is wanted before the parser runs: which settings there are depends on it.

    Args:
        arguments: of the command line.
        tasks: the known ones.
        default: where nothing chooses.

    Raises:
        ConfigError: when the task is unknown, or a file is not a proper configuration.
    """
    task: Any = default
    for name, value in _options(arguments):  # the last one wins, as everywhere on the command line
        if name in ("-c", "--config"):
            task = read_config_file(Path(value)).get("task", task)
        elif name == "--task":
            task = value
    if not isinstance(task, str) or task not in tasks:
        raise ConfigError(f"task is {task!r}; known: {', '.join(sorted(tasks))}")
    return task


def read_config_file(path: Path) -> dict[str, Any]:
    """The content of a configuration file; the parser's own messages do not name the file that is wrong.

    Raises:
        ConfigError: when it is unreadable, no YAML, or no mapping, or when a section is empty.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a proper YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings; a configuration has sections such as trainer, model and data")
    for section in ("trainer", "model", "data"):
        if section in content and content[section] is None:
            raise ConfigError(f"{path}: the section '{section}' is empty; fill it or leave it out")
        if isinstance(content.get(section), str):
            read_config_file(path.parent / content[section])
    return content


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each argument with its value: behind an equals sign, in the next argument, or right behind `-c`."""
    for flag, value in pairwise([*arguments, ""]):
        name, equals, rest = flag.partition("=")
        if flag.startswith("-c") and flag != "-c":  # -cFILE
            yield "-c", flag[2:].removeprefix("=")
        else:
            yield name, rest if equals else value


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that occurs twice is an error; the second would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, if its keys differ."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = {str(key) for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.YAMLError(f"{', '.join(sorted(repeated))} occurs twice{node.start_mark}")
        return super().construct_mapping(node, deep)

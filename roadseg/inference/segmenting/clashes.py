"""What must not be written: two masks under one name, a mask over an input, or over what somebody else wrote."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from roadseg.errors import ConfigError, OutputError
from roadseg.images import IMAGE_SUFFIXES
from roadseg.inference.segmenting.names import folders_above
from roadseg.walking import walk_files

if TYPE_CHECKING:
    from roadseg.inference.segmenting.done import Recorded
    from roadseg.inference.segmenting.plan import Plan

MANIFESTS = "manifest*.jsonl"
"""Pattern of the manifests in an output folder."""


def refuse_clashes(plan: "Plan", hashes: npt.NDArray[np.int64], folders: Collection[int]) -> None:
    """Refuse two files of one name, and a file, or the folder of a video's frames, where others need a folder.

    Args:
        plan: what is to be written.
        hashes: of all names that are written, in order. Only names whose hashes are equal are looked at closely; those
            of two million different names hardly ever are.
        folders: hashes of all folders that those names lie in.

    Raises:
        ConfigError: when there are two.
    """
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    suspects.update(hashes[np.isin(hashes, np.fromiter(folders, np.int64, len(folders)))].tolist())
    taken: dict[str, tuple[Path, str]] = {}
    inside: dict[str, Path] = {}
    for path, name in _all_written(plan) if suspects else ():
        key = plan.key(name)
        inside.update((folder, path) for folder in folders_above(key) if hash(folder) in suspects)
        if hash(key) not in suspects:
            continue
        if key in taken:
            _refuse_clash(taken[key][0], path, plan.output / taken[key][1])
        taken[key] = path, name
    for key, (path, name) in taken.items():
        if key in inside:
            _refuse_clash(path, inside[key], plan.output / name)


def refuse_mixed_folders(plan: "Plan", recorded: "Recorded") -> None:
    """The frames of a video have their folder for themselves: what earlier runs wrote counts, too.

    Args:
        plan: what is to be written.
        recorded: what was.

    Raises:
        ConfigError: when frames of a video and other masks would lie in one folder.
    """
    if plan.video != "frames" and not recorded.frame_folders:
        return
    fix = "choose another output folder"
    for path, name in _all_written(plan):
        if plan.is_frame_folder(path) and hash(name) in recorded.other_folders:
            raise ConfigError(
                f"the frames of {path} would be written to {plan.output / name}, where an earlier run wrote other "
                f"masks; {fix}"
            )
        for folder in folders_above(name):
            if folder in recorded.frame_folders:
                raise ConfigError(
                    f"{path} would be written to {plan.output / folder}, where the frames of the video "
                    f"{recorded.frame_folders[folder]} are; {fix}"
                )


def _refuse_clash(first: Path, second: Path, written: Path) -> NoReturn:
    raise ConfigError(f"{first} and {second} would both be written to {written}; rename one, or segment them apart")


def refuse_images_in_output(plan: "Plan") -> None:
    """The output folder is passed over where it lies below a source: it must not hold what is to be segmented.

    Raises:
        ConfigError: when it holds images, and no manifest that would make them masks.
    """
    real = os.path.realpath(plan.output)
    below = any(real.startswith(os.path.join(os.path.realpath(source), "")) for source in plan.sources)
    if not below or not plan.output.is_dir() or any(plan.output.glob(MANIFESTS)):
        return
    image = next(walk_files(plan.output, IMAGE_SUFFIXES), None)
    if image is not None:
        raise ConfigError(
            f"{plan.output} lies in a folder that is to be segmented, and holds images, such as {image}; choose "
            "another output folder"
        )


def refuse_replaced_inputs(plan: "Plan") -> None:
    """Inputs are in danger only where a source is the output folder, or lies in it: elsewhere that is passed over.

    Raises:
        ConfigError: when an input would be replaced, now or, because masks lie among images, the next time.
    """
    real = os.path.join(os.path.realpath(plan.output), "")
    if not any(os.path.join(os.path.realpath(source), "").startswith(real) for source in plan.sources):
        return
    inputs: set[int] = set()
    for path, _ in _all_written(plan):
        inputs.update(map(hash, (plan.key(os.path.realpath(path)), plan.key(os.path.realpath(path.parent)))))
    for _, name in _all_written(plan):
        path = plan.output / name
        if hash(plan.key(os.path.realpath(path))) in inputs and path.exists():
            raise ConfigError(f"{path} would replace an input image; choose another output folder")
    for source in plan.sources:
        if source.is_dir() and os.path.join(os.path.realpath(source), "") == real:
            raise ConfigError(
                f"{plan.output} is searched for images, and the next time its masks would be taken for some; choose "
                f"another output folder, such as {plan.output / 'masks'}"
            )


def refuse_unknown_masks(plan: "Plan") -> None:
    """Masks that somebody drew, or that another run wrote, are worth more than a run of the wrong command.

    Raises:
        OutputError: when one would be replaced.
    """
    if not plan.output.is_dir() or not any(plan.output.iterdir()):
        return
    for _, name in _all_written(plan):
        if (plan.output / name).exists():
            raise OutputError(
                f"{plan.output / name} is there, and no manifest in {plan.output} tells of it; choose another folder, "
                "or --overwrite to replace it"
            )


def _all_written(plan: "Plan") -> Iterator[tuple[Path, str]]:
    """(Image, name below the output folder) of all files that all shards write."""
    for folder, relative in plan.found(lambda below, error: None):
        for name in plan.written(relative):
            yield folder / relative, name

"""Which frame belongs to which split, and whose label of it is kept."""

from collections import Counter
from collections.abc import Sequence

from roadseg.data.class_table import ClassTable
from roadseg.data.dataset_config import SPLITS, DatasetConfig
from roadseg.data.labelled import FrameSource
from roadseg.data.mapped import MappedFrames
from roadseg.data.splitting import DriveSplit
from roadseg.errors import DataError
from roadseg.taxonomy import Taxonomy


def assign_splits(
    sources: Sequence[FrameSource],
    configs: Sequence[DatasetConfig],
    taxonomy: Taxonomy,
    drives: DriveSplit | None = None,
) -> dict[str, list[FrameSource]]:
    """Split name -> what each dataset gives to it, in the order of the datasets.

    A frame that several datasets label is in one split: the test split if it is there for one of them, else the
    validation split, else the training split. It is taken from the dataset whose labels tell most classes apart, of
    those that give frames to that split. So nothing is trained on that is validated.

    Args:
        sources: the datasets.
        configs: of each.
        taxonomy: in which labels are compared.
        drives: the drives held out, in place of the published splits; frames that are published as "test" stay there.

    Raises:
        DataError: when a drive that is held out is in no dataset.
    """
    if drives is not None:
        _check_drives(sources, drives)
    assigned = [[_split_of(source, i, drives) for i in range(len(source.frames))] for source in sources]
    for collection in {source.collection for source in sources}:
        shared = [k for k, source in enumerate(sources) if source.collection == collection]
        if len(shared) > 1:
            _settle(shared, sources, configs, assigned, taxonomy)
    return {
        split: [
            source.take([i for i, s in enumerate(own) if s == split and split in config.splits])
            for source, config, own in zip(sources, configs, assigned, strict=True)
        ]
        for split in SPLITS
    }


def shared_drives(
    train: Sequence[MappedFrames], held: Sequence[MappedFrames]
) -> dict[tuple[str, str], tuple[int, int]]:
    """(collection, drive) of the drives that are in both -> frames of it in train, and in the other split."""
    trained, evaluated = _count_drives(train), _count_drives(held)
    return {key: (trained[key], evaluated[key]) for key in sorted(trained.keys() & evaluated.keys())}


def count_frames(parts: Sequence[FrameSource]) -> dict[str, int]:
    """Frames that each dataset gives."""
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.name] = counts.get(part.name, 0) + len(part.frames)
    return counts


def _told_apart(classes: ClassTable, taxonomy: Taxonomy) -> set[int]:
    """Class ids that a dataset labels by themselves."""
    return {next(iter(s)) for s in classes.sets_in(taxonomy).values() if len(s) == 1}


def _split_of(source: FrameSource, index: int, drives: DriveSplit | None) -> str:
    split = source.frames.split(index)
    if drives is None or split == "test":
        return split
    return drives.split_of(source.collection, source.frames.drive(index))


def _settle(
    shared: Sequence[int],
    sources: Sequence[FrameSource],
    configs: Sequence[DatasetConfig],
    assigned: list[list[str]],
    taxonomy: Taxonomy,
) -> None:
    """Give every frame of a collection one split and one dataset; the others' copies get no split."""
    split_of: dict[str, str] = {}
    for k in shared:
        for i, split in enumerate(assigned[k]):
            name = sources[k].frames.name(i)
            split_of[name] = max(split, split_of.get(name, split), key=SPLITS.index)
    taken: set[str] = set()
    # The sort is stable: of equally fine datasets the first one named wins.
    for k in sorted(shared, key=lambda k: -len(_told_apart(sources[k].classes, taxonomy))):
        for i in range(len(assigned[k])):
            name = sources[k].frames.name(i)
            split = split_of[name]
            kept = split in configs[k].splits and name not in taken
            assigned[k][i] = split if kept else ""
            if kept:
                taken.add(name)


def _check_drives(sources: Sequence[FrameSource], drives: DriveSplit) -> None:
    known = {name for s in sources for drive in s.frames.drives for name in (drive, f"{s.collection}/{drive}")}
    unknown = sorted({*drives.val, *drives.test} - known)
    if unknown:
        listed = sorted({drive for s in sources for drive in s.frames.drives})
        shown = ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")
        raise DataError(f"no dataset has the drive {', '.join(unknown)} that is held out; the drives are {shown}")


def _count_drives(parts: Sequence[MappedFrames]) -> Counter[tuple[str, str]]:
    return Counter(
        (part.source.collection, part.source.frames.drive(i)) for part in parts for i in range(len(part.source.frames))
    )

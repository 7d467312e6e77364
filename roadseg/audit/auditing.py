"""The audit: everything that is read, and everything that is concluded from it."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from tqdm import tqdm

from roadseg.audit.collected import Collected
from roadseg.audit.findings import FindingStore, Occurrence
from roadseg.audit.frame_scan import Part
from roadseg.audit.label_checks import check_classes, check_labels, count_pixels
from roadseg.audit.report import AuditReport, PartSummary
from roadseg.audit.scan import scan_frames
from roadseg.audit.split_checks import check_drives, check_pictures, check_sizes
from roadseg.audit.waivers import Waivers
from roadseg.cores import usable_cores
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError, DataError


def audit(
    splits: Mapping[str, Sequence[MappedFrames]],
    *,
    waive: Collection[str] = (),
    workers: int | None = None,
    progress: bool = True,
    problems: Sequence[tuple[str, DataError]] = (),
) -> AuditReport:
    """Find what ruins trainings before the first epoch.

    Every file is decoded once, in processes: a script calls this below `if __name__ == "__main__":`. What is kept are
    some 300 bytes a frame, sums, and the first occurrences of each finding. Regions that a configuration ignores are
    not taken off the pixel counts.

    Args:
        splits: "train", "val" and "test", as far as there are such, with the datasets in each; equal label sets.
        waive: findings that are known and accepted; see `Waivers`.
        workers: number of processes; by default one a core.
        progress: whether to show a bar, if the terminal can.
        problems: datasets that could not be opened, and why.

    Raises:
        ConfigError: when a waiver names no check, `workers` is less than 1, or no process can be started.
    """
    return audit_parts(
        [Part(split, frames) for split, several in splits.items() for frames in several],
        [_problem(dataset, error) for dataset, error in problems],
        waive=waive,
        workers=workers,
        progress=progress,
    )


def audit_parts(
    parts: Sequence[Part],
    occurrences: Iterable[Occurrence],
    *,
    waive: Collection[str],
    workers: int | None,
    progress: bool,
    with_classes: bool = True,
) -> AuditReport:
    """See `audit`.

    Args:
        parts: the datasets, split by split.
        occurrences: what was found already.
        waive: see `audit`.
        workers: see `audit`.
        progress: see `audit`.
        with_classes: whether the label table is known, so that a class can be missing.

    Raises:
        ConfigError: when a waiver names no check, or `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; an audit needs 1 or more")
    waivers = Waivers(waive)
    store = FindingStore(waivers)
    for occurrence in occurrences:
        store.add(occurrence)
    collected = Collected(parts, store)
    with tqdm(total=len(collected.sizes), desc="auditing", unit="frame", disable=None if progress else True) as bar:
        for facts in scan_frames(parts, workers or usable_cores()):
            collected.add(facts)
            bar.update(facts.chunk.stop - facts.chunk.start)
    check_labels(collected, store)
    pixels = count_pixels(collected)
    if with_classes and parts:
        check_classes(collected, pixels, store)
    for check in (check_pictures, check_drives, check_sizes):
        check(collected, store)
    found = store.sorted()
    return AuditReport(
        findings=[f for f in found if f.waiver is None],
        waived=[f for f in found if f.waiver is not None],
        unused_waivers=waivers.unused,
        parts=[
            PartSummary(part.dataset, part.split, len(part.frames), dict(collected.sizes_of([i]).most_common()))
            for i, part in enumerate(parts)
        ],
        label_sets=parts[0].frames.label_sets if parts else None,
        pixels=pixels,
    )


def _problem(dataset: str, error: DataError) -> Occurrence:
    lonely = any(sign in str(error) for sign in ("have no mask", "have no image"))
    return Occurrence("unpaired" if lonely else "unopened", dataset, "", dataset, detail=str(error))

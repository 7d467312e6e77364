"""What the labels of a whole dataset show: shifted ids, black and white masks, missing classes."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from roadseg.audit.checks import RARE_SHARE
from roadseg.audit.collected import Collected
from roadseg.audit.findings import FindingStore, Occurrence
from roadseg.audit.label_space import LabelSpace
from roadseg.audit.tally import LabelTally
from roadseg.taxonomy import IGNORE_INDEX

_MIN_MASKS = 3  # fewer do not show a rule
_CLEARER = 1.5  # times as well must shifted ids fit the place of sky and road
_MASK_ERRORS = frozenset(
    {"binary-mask", "off-by-one", "palette-colours", "grey-colours", "lossy-mask", "colour-mask", "index-mask",
     "unknown-label", "unreadable-mask", "mask-all-ignored", "size-mismatch"}
)  # fmt: skip
_TOO_MANY_ERRORS = 0.1


def check_labels(collected: Collected, store: FindingStore) -> None:
    """Find shifted ids and black and white masks, dataset by dataset."""
    for dataset in dict.fromkeys(part.dataset for part in collected.parts):
        parts = [i for i, part in enumerate(collected.parts) if part.dataset == dataset]
        space = LabelSpace(collected.parts[parts[0]].frames.source.classes)
        tally = LabelTally()
        for part in parts:
            tally.merge(collected.tallies[part])
        shift = find_shift(tally, space)
        if shift:
            _report_shift(shift, parts, tally, collected, store)
        elif tally.binary == tally.masks and tally.masks > 1 and len(space.ids) > 1:
            _report_binary(parts, collected, store)


def find_shift(tally: LabelTally, space: LabelSpace) -> int:
    """By how much a dataset's ids are too high: 1, -1, or 0 when they are not, or when nothing tells.

    Ids too high by one leave out the first label, and reach beyond the last or put sky and road where neither belongs;
    ids too low by one leave out the last label, may turn 0 to 255, and put sky and road where neither belongs.
    """
    seen = {i for i in tally.labels if i != IGNORE_INDEX}
    if tally.masks < _MIN_MASKS or not seen or len(space.ids) < 2:
        return 0
    known, fit = set(space.ids), _fit(tally, space, 0)
    if min(space.ids) not in seen and {i - 1 for i in seen} <= known:
        if not seen <= known or _fit(tally, space, 1) > _CLEARER * fit:
            return 1
    if max(space.ids) not in seen and {i + 1 for i in seen} <= known and _fit(tally, space, -1) > _CLEARER * fit:
        return -1
    return 0


def _fit(tally: LabelTally, space: LabelSpace, shift: int) -> float:
    """How well sky and road lie where they belong when ids are too high by `shift`: shares times heights."""
    above, below = _weight(tally, space.sky, shift), _weight(tally, space.road, shift)
    return max(0.0, -above) + max(0.0, below)


def _weight(tally: LabelTally, ids: list[int], shift: int) -> float:
    """Share of some labels' pixels times their mean distance below the middle of the picture, in heights."""
    counts = [tally.labels[(i + shift) % 256] for i in ids if (i + shift) % 256 in tally.labels]
    total = sum(count.sampled for count in tally.labels.values())
    return sum(count.height - 0.5 * count.sampled for count in counts) / total if total else 0.0


def _report_shift(shift: int, parts: list[int], tally: LabelTally, collected: Collected, store: FindingStore) -> None:
    dataset = collected.parts[parts[0]].dataset
    for check in ("off-by-one", "unknown-label"):
        store.drop(check, dataset)
    seen = sorted(tally.labels)
    for part in parts:
        masks = collected.tallies[part].masks
        if masks:
            frames = collected.parts[part].frames.source.frames
            way = "high" if shift > 0 else "low"
            detail = f"all {tally.masks} masks of {dataset} together: ids {seen[0]} to {seen[-1]}, too {way} by one"
            found = collected.occurrence(part, "off-by-one", frames.name(0), str(frames.label_path(0)), detail)
            store.add(found, masks)


def _report_binary(parts: list[int], collected: Collected, store: FindingStore) -> None:
    for part in parts:
        frames = collected.parts[part].frames.source.frames
        first = collected.binary[part]
        for place, index in enumerate(first):
            detail = "0 and 255 only, in every mask of the dataset"
            found = collected.occurrence(part, "binary-mask", frames.name(index), str(frames.label_path(index)), detail)
            rest = collected.tallies[part].binary - len(first) if place == len(first) - 1 else 0
            store.add(found, 1 + rest)


def count_pixels(collected: Collected) -> dict[str, npt.NDArray[np.int64]]:
    """Pixels of each set id by split: (256,) int64, those ignored at 255."""
    pixels = {split: np.zeros(256, np.int64) for split in collected.splits}
    for part, tally in zip(collected.parts, collected.tallies, strict=True):
        for label, count in tally.labels.items():
            target = part.frames.table.look_up(np.array([min(label, 65535)], np.uint16))[0]
            pixels[part.split][target] += count.pixels
    return pixels


def check_classes(collected: Collected, pixels: Mapping[str, npt.NDArray[np.int64]], store: FindingStore) -> None:
    """Find classes that training never or hardly ever shows, and those that evaluation cannot score.

    Silent where many masks are broken: then that is what has to be mended first.

    Args:
        collected: what the scan found.
        pixels: of each set id, by split.
        store: takes the findings.
    """
    broken = any(
        store.count(_MASK_ERRORS, part.dataset, part.split) > _TOO_MANY_ERRORS * len(part.frames)
        for part in collected.parts
    )
    if broken or "train" not in pixels or not pixels["train"][:IGNORE_INDEX].any():
        return
    membership = collected.parts[0].frames.label_sets.membership
    held = {split: counts[: len(membership)] @ membership for split, counts in pixels.items()}
    alone = _taught_alone(collected)
    shown = np.where(alone, pixels["train"][: membership.shape[1]], held["train"])
    labelled = pixels["train"][:IGNORE_INDEX].sum()
    for i, name in enumerate(collected.parts[0].frames.label_sets.taxonomy.names):
        if shown[i] == 0:
            store.add(Occurrence("class-missing", "", "train", name, detail="0 pixels"))
        elif shown[i] < RARE_SHARE * labelled:
            detail = f"{shown[i]} of {labelled} pixels ({100 * shown[i] / labelled:.4f} %)"
            store.add(Occurrence("class-rare", "", "train", name, detail=detail))
        for split in (s for s in pixels if s != "train" and shown[i] and pixels[s][:IGNORE_INDEX].any()):
            if held[split][i] == 0:
                store.add(Occurrence("class-unscored", "", split, name, detail="0 pixels"))


def _taught_alone(collected: Collected) -> npt.NDArray[np.bool_]:
    """(C,): whether some label of the training data means exactly this class."""
    classes = len(collected.parts[0].frames.label_sets.taxonomy)
    alone = np.zeros(classes, bool)
    for part in collected.parts:
        if part.split == "train":
            targets = part.frames.table.look_up(np.array(part.frames.table.known, np.uint16))
            alone[targets[targets < classes]] = True
    return alone

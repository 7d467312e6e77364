"""What only shows between frames: leaks between splits, copies, odd sizes."""

from collections import Counter, defaultdict

from roadseg.audit.collected import Collected
from roadseg.audit.findings import FindingStore, Occurrence
from roadseg.audit.fingerprints import find_alike, find_equal

_MIN_FRAMES = 12
_USUAL_SHARE = 0.9


def check_pictures(collected: Collected, store: FindingStore) -> None:
    """Find near-identical frames across splits, and equal ones within."""
    splits = collected.splits
    for split in splits:
        rows = collected.rows_of_split(split)
        for copy, original in zip(*(rows[found].tolist() for found in find_equal(collected.thumbs[rows])), strict=True):
            detail = f"equals {collected.image_path(original)}"
            store.add(collected.image_occurrence(copy, "duplicate-frame", detail))
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            _check_leak(first, second, collected, store)


def _check_leak(first: str, second: str, collected: Collected, store: FindingStore) -> None:
    rows, others = collected.rows_of_split(first), collected.rows_of_split(second)
    found, original, alike = find_alike(collected.thumbs[rows], collected.thumbs[others])
    for row, other, score in zip(others[found].tolist(), rows[original].tolist(), alike.tolist(), strict=True):
        detail = f"looks like {collected.image_path(other)} in {first} (correlation {min(score, 1.0):.3f})"
        store.add(collected.image_occurrence(row, "leak-frame", detail))


def check_drives(collected: Collected, store: FindingStore) -> None:
    """Find drives that lie in training and in evaluation; where every frame is a drive of its own, there are none."""
    drives: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    datasets: dict[tuple[str, str, str], str] = {}
    for part in collected.parts:
        collection = part.frames.source.collection
        for drive, count in Counter(frame.drive for frame in part.frames.source.frames).items():
            drives[collection, drive][part.split] += count
            datasets.setdefault((collection, drive, part.split), part.dataset)
    filmed = {collection for (collection, _), counts in drives.items() if max(counts.values()) > 1}
    for (collection, drive), counts in sorted(drives.items()):
        if collection not in filmed:
            continue
        for split in [s for s in counts if s != "train" and drive and "train" in counts]:
            detail = f"{counts['train']} frames in train, {counts[split]} in {split}"
            store.add(Occurrence("leak-drive", datasets[collection, drive, split], split, drive, detail=detail))


def check_sizes(collected: Collected, store: FindingStore) -> None:
    """Find frames of another size than nearly all of their dataset."""
    for dataset in dict.fromkeys(part.dataset for part in collected.parts):
        parts = [i for i, part in enumerate(collected.parts) if part.dataset == dataset]
        sizes = collected.sizes_of(parts)
        total = sum(sizes.values())
        if total < _MIN_FRAMES or len(sizes) < 2:
            continue
        (usual, count), *_ = sizes.most_common(1)
        if count < _USUAL_SHARE * total:
            continue
        for part in parts:
            start = collected.rows(part).start
            for index, (height, width) in enumerate(collected.sizes[collected.rows(part)].tolist()):
                if height and (height, width) != usual:
                    detail = f"{width}x{height}; {count} of {total} frames are {usual[1]}x{usual[0]} (width x height)"
                    store.add(collected.image_occurrence(start + index, "odd-size", detail))

"""Pictures of an audit: what the network sees, and how often the classes occur."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from roadseg.audit.report import AuditReport
from roadseg.data.mapped import MappedFrames
from roadseg.errors import MissingExtraError, OutputError, RoadsegError
from roadseg.label_sets import LabelSets
from roadseg.taxonomy import IGNORE_INDEX

_TILES = 24
_COLUMNS = 6
_TILE_PX = 320
_TEXT_PX = 22
_OPACITY = 0.5
_NEVER = 1e-7  # where the logarithmic axis begins


class TrainSamples(Protocol):
    """Samples as the network sees them: dicts of `image` (3, h, w) uint8, `mask` (h, w) set ids, and maybe `name`."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """A sample."""
        ...


def write_pictures(
    report: AuditReport,
    splits: Mapping[str, Sequence[MappedFrames]],
    train_view: TrainSamples | None,
    folder: str | Path,
) -> list[Path]:
    """Write `audit_samples.png`, a sheet of samples with their masks, and `audit_classes.png`, class frequencies.

    Args:
        report: of the audit.
        splits: that were audited.
        train_view: samples after augmentation; None leaves the contact sheet out.
        folder: where to write; made if it is not there.

    Returns:
        The files written.

    Raises:
        OutputError: when a file cannot be written.
        MissingExtraError: when matplotlib is not installed.
    """
    folder = Path(folder)
    sets = next((part.label_sets for parts in splits.values() for part in parts), report.label_sets)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if sets is not None and train_view is not None and len(train_view):
            written.append(folder / "audit_samples.png")
            Image.fromarray(draw_contact_sheet(train_view, sets)).save(written[-1])
        if report.pixels and report.label_sets is not None:
            written.append(folder / "audit_classes.png")
            _plot_frequencies(report, written[-1])
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return written


def draw_contact_sheet(samples: TrainSamples, sets: LabelSets) -> npt.NDArray[np.uint8]:
    """A sheet of up to 24 samples, spread over all, each half covered by the colours of its labels, with a legend.

    Ignored pixels are left as they are. A pixel of several possible classes has their mean colour.

    Args:
        samples: after augmentation.
        sets: the meaning of the set ids.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(_TILES, len(samples))).round().astype(int)).tolist()
    colours, seen = set_colours(sets), np.zeros(256, bool)
    tiles = [_draw_tile(samples, index, colours, seen) for index in chosen]
    height = max(tile.shape[0] for tile in tiles)
    blank = np.full((height, _TILE_PX, 3), 255, np.uint8)
    padded = [np.concatenate([tile, blank[tile.shape[0] :]]) for tile in tiles]
    columns = min(_COLUMNS, len(padded))
    padded += [blank] * (-len(padded) % columns)
    rows = [np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)]
    sheet = np.concatenate(rows)
    return np.concatenate([sheet, _draw_legend(sets, colours, seen, sheet.shape[1])])


def set_colours(sets: LabelSets) -> npt.NDArray[np.uint8]:
    """(256, 3) uint8 RGB of each set id: the mean of its classes' colours."""
    colours = np.zeros((256, 3), np.uint8)
    for i, members in enumerate(sets.members):
        colours[i] = sets.taxonomy.palette[list(members)].mean(axis=0).round()
    return colours


def _draw_tile(
    samples: TrainSamples, index: int, colours: npt.NDArray[np.uint8], seen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    try:
        sample = samples[index]
    except RoadsegError:
        return _caption(np.full((_TILE_PX * 3 // 4, _TILE_PX, 3), 128, np.uint8), f"sample {index} is broken")
    image = np.ascontiguousarray(np.moveaxis(np.asarray(sample["image"]), 0, -1)).clip(0, 255).astype(np.uint8)
    mask = np.asarray(sample["mask"]).astype(np.uint8)
    seen[np.unique(mask)] = True
    mixed = cv2.addWeighted(image, 1 - _OPACITY, colours[mask], _OPACITY, 0)
    mixed[mask == IGNORE_INDEX] = image[mask == IGNORE_INDEX]
    size = (_TILE_PX, max(1, round(_TILE_PX * mask.shape[0] / mask.shape[1])))
    return _caption(cv2.resize(mixed, size, interpolation=cv2.INTER_AREA), str(sample.get("name", index)))


def _caption(picture: npt.NDArray[np.uint8], text: str) -> npt.NDArray[np.uint8]:
    strip = np.full((_TEXT_PX, picture.shape[1], 3), 255, np.uint8)
    _write(strip, text[-40:], 4)
    return np.concatenate([strip, picture])


def _draw_legend(
    sets: LabelSets, colours: npt.NDArray[np.uint8], seen: npt.NDArray[np.bool_], width: int
) -> npt.NDArray[np.uint8]:
    """One line for each set that occurs on the sheet."""
    lines = []
    for i, name in enumerate(sets.names):
        if seen[i]:
            strip = np.full((_TEXT_PX, width, 3), 255, np.uint8)
            strip[3:-3, 4:40] = colours[i]
            _write(strip, name, 48)
            lines.append(strip)
    return np.concatenate(lines) if lines else np.zeros((0, width, 3), np.uint8)


def _write(strip: npt.NDArray[np.uint8], text: str, left: int) -> None:
    printable = text.encode("ascii", "replace").decode()  # the only letters that OpenCV draws
    cv2.putText(strip, printable, (left, _TEXT_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)


def _plot_frequencies(report: AuditReport, path: Path) -> None:
    """Share of the labelled pixels of each set in each split, on a logarithmic axis."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the class-frequency plot needs the package 'matplotlib', which is not installed: pip install matplotlib"
        ) from error
    shares = {split: report.shares(split) for split in report.pixels}
    names = (
        [name for name in report.label_sets.names if any(name in s for s in shares.values())]
        if report.label_sets
        else []
    )
    names += [c for c in (report.label_sets.taxonomy.names if report.label_sets else []) if c not in names]
    figure = Figure(figsize=(9, 1.5 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    thickness = 0.8 / len(shares)
    for i, (split, share) in enumerate(shares.items()):
        place = np.arange(len(names)) + (i + 0.5) * thickness - 0.4
        widths = [share.get(name, 0.0) for name in names]
        axes.barh(place, widths, thickness, label=split)
    axes.set_yticks(np.arange(len(names)), [_shortened(name) for name in names])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(_NEVER, 1)
    axes.axvline(1e-4, color="black", linewidth=0.8, linestyle="--")
    axes.set_xlabel("share of the labelled pixels (dashed: 0.01 %)")
    axes.legend()
    figure.savefig(path, dpi=120)


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."

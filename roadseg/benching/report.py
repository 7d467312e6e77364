"""A benchmark's findings as a table for people, and as JSON for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from roadseg.benching.ceilings import LINKS
from roadseg.benching.machine import is_busy
from roadseg.benching.results import Ceiling, Report, Row
from roadseg.image_size import size_name

FORMAT_VERSION = 1

_HEAD = (
    ("", "", "", "", "", "median", "quartiles", "images", "share of", "peak", "a run's", "argmax as"),
    ("model", "engine", "precision", "size", "batch", "ms", "ms", "a second", "ceiling", "MiB", "MiB", "torch f32"),
)
_NAMES = 5
"""Columns that name a combination; the first four are set left."""


def report_text(report: Report) -> str:
    """A table of fixed width; a combination that did not run has its reason in place of the figures."""
    cells = [*_HEAD, *(_cells(row) for row in report.rows)]
    widths = [max(len(line[i]) for line in cells if i < len(line)) for i in range(len(_HEAD[0]))]
    lines = [_aligned(line, widths) for line in cells[: len(_HEAD)]]
    for row, line in zip(report.rows, cells[len(_HEAD) :], strict=True):
        reason = f"  {row.unavailable}" if row.unavailable else ""
        lines.append(_aligned(line, widths) + reason)
    return "\n".join([machine_line(report), "", *lines, "", *_below(report)])


def report_json(report: Report) -> str:
    """Everything, as `roadseg bench --json` writes it; see docs/bench.md."""
    return json.dumps(report_dict(report), indent=1) + "\n"


def report_dict(report: Report) -> dict[str, Any]:
    """Plain values: seconds, MiB, whole numbers of operations; null where there is no figure."""
    return {
        "format_version": FORMAT_VERSION,
        "machine": report.machine,
        "busy": is_busy(report.machine),
        "software": report.software,
        "settings": asdict(report.settings),
        "ceilings": [asdict(ceiling) for ceiling in report.ceilings],
        "rows": [_row_dict(row) for row in report.rows],
    }


def _row_dict(row: Row) -> dict[str, Any]:
    runner, network = row.combination.runner, row.network
    return {
        "model": runner.model,
        "model_digest": row.model_digest,
        "engine": row.engine,
        "precision": row.precision,
        "device": row.device,
        "asked": {"engine": runner.engine, "precision": runner.precision, "device": runner.device},
        "size": list(row.combination.size),
        "working_size": list(network.working_size) if network else None,
        "batch": row.combination.batch,
        "unavailable": row.unavailable,
        "seconds": asdict(row.spread) if row.spread else None,
        "images_per_s": row.images_per_s,
        "parameters": network.parameters if network else None,
        "macs": network.macs if network else None,
        "ceiling_gflops": row.ceiling,
        "ceiling_share": row.ceiling_share,
        "memory": asdict(row.memory) if row.memory else None,
        "agreement": row.agreement,
        "notes": list(row.notes),
    }


def _cells(row: Row) -> tuple[str, ...]:
    combination = row.combination
    name = combination.runner.model
    names = (name, row.engine, row.precision, size_name(combination.size), str(combination.batch))
    if row.spread is None:
        return names
    spread, memory = row.spread, row.memory
    return (
        *names,
        milliseconds(spread.median_s),
        f"{milliseconds(spread.low_s)}..{milliseconds(spread.high_s)}",
        f"{row.images_per_s:.2f}",
        percent(row.ceiling_share, 0),
        f"{memory.peak_mib:.0f}" if memory else "-",
        f"{memory.run_mib:.0f}" if memory else "-",
        percent(row.agreement, 3),
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.ljust(width) if i < _NAMES - 1 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=False))
    )
    return "  ".join(padded).rstrip()


def milliseconds(seconds: float) -> str:
    """Milliseconds with three digits, or all before the point."""
    value = seconds * 1e3
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def percent(share: float | None, digits: int) -> str:
    """A share in %, or a dash. Cut off and not rounded: 100 % is said of everything only."""
    if share is None:
        return "-"
    scale = 10**digits
    return f"{int(share * 100 * scale + 1e-9) / scale:.{digits}f} %"


def machine_line(report: Report) -> str:
    """The machine in a few words."""
    machine = report.machine
    threads = f", {report.settings.threads} threads" if report.settings.threads else ""
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    return f"{machine['processor']}, {machine['usable_cores']} of {machine['cores']} cores{threads}{gpu}"


def _below(report: Report) -> list[str]:
    """The ceilings, what is missing and why, and whether the machine had other work."""
    side = report.settings.matmul_side
    lines = [_ceiling_line(ceiling, side) for ceiling in report.ceilings]
    lines += list(dict.fromkeys(note for row in report.rows for note in row.notes if not note.startswith("no ceiling")))
    if is_busy(report.machine):
        lines.append(
            f"this machine was busy when the benchmark began (load {report.machine['load_1min']} on "
            f"{report.machine['usable_cores']} cores): times are too long, and ratios uncertain"
        )
    return lines


def _ceiling_line(ceiling: Ceiling, side: int) -> str:
    name = f"{ceiling.engine} {ceiling.precision} on {ceiling.device}"
    if ceiling.gflops is None:
        return f"no ceiling of {name}: {ceiling.unavailable}"
    return f"ceiling of {name}: {ceiling.gflops:.0f} GFLOP/s, in a chain of {LINKS} products of {side}x{side} matrices"

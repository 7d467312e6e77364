"""The table, the JSON and the picture, from findings that are made up."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from roadseg.benching.combinations import Combination, Runner
from roadseg.benching.figure import draw_report, report_png
from roadseg.benching.report import report_json, report_text
from roadseg.benching.results import Ceiling, Memory, Network, Report, Row, Settings
from roadseg.benching.timing import summarise
from roadseg.errors import ConfigError

MACHINE = {"processor": "Some CPU", "cores": 4, "usable_cores": 2, "load_1min": 0.1}


def row(engine, precision, seconds, agreement, **changes):
    runner = Runner("small+linear", engine, precision, "cpu")
    made = Row(
        Combination(runner, (512, 1024), 2),
        engine,
        precision,
        "cpu",
        None,
        "d" * 64,
        summarise(seconds),
        2 / float(np.median(seconds)),
        Network((512, 1024), 24_000_000, 38_000_000_000),
        235.0,
        0.98,
        Memory(812.4, 500.0, 250.6, None, 2.0, 0.4),
        agreement,
    )
    return replace(made, **changes)


@pytest.fixture
def report():
    absent = Combination(Runner("small", "tensorrt", "f16", "cpu"), (512, 1024), 2)
    rows = (
        row("torch", "f32", [1.2, 1.0, 1.1], 1.0),
        row("openvino", "bf16", [0.0123, 0.0125, 0.0128], 0.99999949, ceiling=None, ceiling_share=None, memory=None),
        Row(absent, "tensorrt", "f16", "cpu", "the package 'tensorrt' is not installed"),
    )
    ceilings = (
        Ceiling("torch", "f32", "cpu", 190.4, summarise([0.36])),
        Ceiling("openvino", "bf16", "cpu", unavailable="no bf16 in OpenVINO on this CPU"),
    )
    return Report(MACHINE, {"roadseg": "0"}, Settings(repeats=3, threads=2), ceilings, rows)


def test_the_table_has_each_row_its_figures_and_its_reason(report):
    lines = report_text(report).splitlines()
    assert lines[0] == "Some CPU, 2 of 4 cores, 2 threads"
    heading = next(i for i, line in enumerate(lines) if line.startswith("model"))
    torch, openvino, tensorrt = lines[heading + 1 : heading + 4]
    assert torch.split() == ("small+linear torch f32 512x1024 2 1100 1050..1150 1.82 98 % 812 251 100.000 %".split())
    assert openvino.split()[5:] == ["12.5", "12.4..12.7", "160.00", "-", "-", "-", "99.999", "%"]
    assert tensorrt.endswith("the package 'tensorrt' is not installed")


def test_columns_are_aligned(report):
    lines = report_text(report).splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("model"))
    left, right = lines[heading].index("precision"), lines[heading].index("a second") + len("a second")
    assert all(line[left - 1] == " " and line[left] != " " for line in lines[heading : heading + 4])
    assert lines[heading + 1][:right].endswith(" 1.82") and lines[heading + 2][:right].endswith(" 160.00")


def test_ceilings_and_what_is_missing_stand_below(report):
    text = report_text(report)
    assert "ceiling of torch f32 on cpu: 190 GFLOP/s, in a chain of 4 products of 2048x2048 matrices" in text
    assert "no ceiling of openvino bf16 on cpu: no bf16 in OpenVINO on this CPU" in text
    assert "busy" not in text


def test_a_busy_machine_is_told_because_its_times_mislead(report):
    busy = replace(report, machine={**MACHINE, "load_1min": 3.5})
    assert "this machine was busy when the benchmark began (load 3.5 on 2 cores)" in report_text(busy)
    assert json.loads(report_json(busy))["busy"] is True


def test_almost_all_pixels_are_not_said_to_be_all(report):
    text = report_text(replace(report, rows=(row("onnx", "f32", [1.0], 0.999999999),)))
    assert "99.999 %" in text and "100.000 %" not in text


def test_json_has_the_same_keys_in_every_row_and_seconds_as_measured(report):
    document = json.loads(report_json(report))
    assert set(document) == {"format_version", "machine", "busy", "software", "settings", "ceilings", "rows"}
    assert all(set(found) == ROW_KEYS for found in document["rows"])
    torch, _, tensorrt = document["rows"]
    assert torch["seconds"] == {"median_s": 1.1, "low_s": 1.05, "high_s": 1.15, "fastest_s": 1.0, "repeats": 3}
    assert torch["memory"]["run_mib"] == 250.6 and torch["macs"] == 38_000_000_000
    assert torch["model"] == "small+linear" and torch["asked"] == {
        "engine": "torch",
        "precision": "f32",
        "device": "cpu",
    }
    assert tensorrt["unavailable"] and tensorrt["seconds"] is None and tensorrt["memory"] is None
    assert document["ceilings"][1]["gflops"] is None and document["settings"]["threads"] == 2


ROW_KEYS = {
    "agreement",
    "asked",
    "batch",
    "ceiling_gflops",
    "ceiling_share",
    "device",
    "engine",
    "images_per_s",
    "macs",
    "memory",
    "model",
    "model_digest",
    "notes",
    "parameters",
    "precision",
    "seconds",
    "size",
    "unavailable",
    "working_size",
}


def test_the_picture_has_a_bar_of_milliseconds_an_image_for_each_row_that_ran(report):
    pytest.importorskip("matplotlib")
    (axis,) = draw_report(report).axes
    # Two images a batch; the quicker one comes first.
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([6.25, 550])
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "small+linear: openvino bf16, batch 2",
        "small+linear: torch f32, batch 2",
    ]
    assert [text.get_text() for text in axis.texts] == ["6.25 ms  (99.999 %)", "550 ms  (100.000 %)"]
    assert axis.get_title(loc="left") == "images of 512x1024 px"
    assert draw_report(report).get_suptitle().endswith("\nSome CPU, 2 of 4 cores, 2 threads")
    png = report_png(report)
    assert Image.open(io.BytesIO(png)).size[0] == 1200


def test_a_long_path_leaves_room_for_the_bars(report):
    pytest.importorskip("matplotlib")
    long = row("onnx", "f32", [1.0], 1.0)
    path = f"/home/{'a' * 200}/exports/nano-int8"
    runner = replace(long.combination.runner, model=path)
    (axis,) = draw_report(replace(report, rows=(replace(long, combination=Combination(runner, (8, 8))),))).axes
    (label,) = (label.get_text() for label in axis.get_yticklabels())
    assert label.startswith("…") and label.endswith("aaa/exports/nano-int8: onnx f32") and len(label) < 60


def test_there_is_no_picture_of_nothing(report):
    pytest.importorskip("matplotlib")
    with pytest.raises(ConfigError, match="nothing was measured"):
        report_png(replace(report, rows=report.rows[2:]))

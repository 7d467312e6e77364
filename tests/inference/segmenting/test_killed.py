"""A process that is killed in the middle of a folder, with a real network."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

import roadseg
from roadseg.data.synthetic import render_scene
from tests.inference.segmenting.test_resuming import lines, masks

FRAMES = 30
PROGRAM = "import sys; from roadseg.cli import main; sys.exit(main(sys.argv[1:]))"
TIMES = {"seconds", "finished", "began"}


def command(folder, output):
    options = ["--engine", "torch", "--device", "cpu", "--overlay", "--confidence"]
    lists = ["--rank", "uncertainty", "--to", "coco"]
    return [sys.executable, "-c", PROGRAM, "segment", str(folder), "-o", str(output), *options, *lists]


def without_times(manifest):
    """The header, and the row that counts of each frame, less how long things took and when they were."""
    header, *rows = ({key: value for key, value in row.items() if key not in TIMES} for row in lines(manifest))
    return header, {row["image"]: row for row in rows}


@pytest.mark.slow
def test_a_folder_goes_on_after_kill_9_to_the_same_bytes(tmp_path):
    for i in range(FRAMES):
        path = tmp_path / "drive" / f"cam{i % 2}" / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render_scene(i, (90 + 30 * (i % 3), 240)).image).save(path, quality=90)
    (tmp_path / "drive" / "broken.jpg").write_bytes(b"no image")
    here = os.path.dirname(os.path.dirname(roadseg.__file__))
    environment = {**os.environ, "ROADSEG_CACHE": "off", "PYTHONPATH": here}
    out, whole = tmp_path / "out", tmp_path / "whole"
    manifest = out / "manifest.jsonl"
    with subprocess.Popen(command(tmp_path / "drive", out), env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not (manifest.exists() and manifest.read_bytes().count(b"\n") > FRAMES // 3):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    before = without_times(manifest)[1]
    assert FRAMES // 3 <= len(before) < FRAMES, "killed in the middle"
    assert not list(out.glob("ranking*")) and not list(out.glob("prelabels*"))
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    for arguments in ([*command(tmp_path / "drive", out), "--resume"], command(tmp_path / "drive", whole)):
        ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 1 and "broken.jpg is not a JPEG, PNG or WebP image" in ended.stderr
    for name, row in before.items():  # what was finished is as it was
        path = out / row["mask"] if "mask" in row else None
        assert path is None or path.stat().st_mtime_ns == done[path], name
    assert masks(out) == masks(whole) and len(masks(out)) == 3 * FRAMES + 2
    assert without_times(manifest) == without_times(whole / "manifest.jsonl")
    ranking = [json.loads(line) for line in (out / "ranking.jsonl").read_text().splitlines()]
    assert ranking == [json.loads(line) for line in (whole / "ranking.jsonl").read_text().splitlines()] and ranking

"""Scanning in processes: the same findings as without, whatever the files do to the processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from roadseg.audit import audit, scan
from roadseg.data.label_files import IndexLabels
from roadseg.data.labelled import LabelledFrames
from roadseg.data.mapped import MappedFrames
from roadseg.errors import ConfigError
from tests.audit.conftest import mapped_splits
from tests.audit.planted import TRAIN, VAL, mask_of_0_and_255, truncated_jpeg_image

ROOT = Path(__file__).parents[2]


class DeadlyLabels(IndexLabels):
    """Ends the process at one file, as a crash in a decoder does."""

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        if path.stem == TRAIN[8]:
            os._exit(139)
        return super().__call__(path, size)


class StrangeLabels(IndexLabels):
    """Raises what no reader should."""

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        if path.stem == TRAIN[8]:
            raise RecursionError("too deep")
        return super().__call__(path, size)


def read_by(reader: IndexLabels, splits: dict[str, list[MappedFrames]]) -> dict[str, list[MappedFrames]]:
    return {
        split: [
            MappedFrames(LabelledFrames("camvid", part.source.frames, part.source.classes, reader), part.label_sets)
            for part in parts
        ]
        for split, parts in splits.items()
    }


@pytest.fixture
def in_processes(monkeypatch):
    monkeypatch.setattr(scan, "INLINE_FRAMES", 0)
    monkeypatch.setattr(scan, "CHUNK_FRAMES", 3)


@pytest.mark.usefixtures("in_processes")
def test_processes_report_what_one_process_reports(tree):
    mask_of_0_and_255(tree)
    tree.image(VAL[4]).write_bytes(b"\x89PNG\r\n\x1a\n")
    parallel = audit(mapped_splits(tree.root), workers=2, progress=False).to_dict()
    alone = audit(mapped_splits(tree.root), workers=1, progress=False).to_dict()
    assert parallel == alone and parallel["errors"] == 2


@pytest.mark.usefixtures("in_processes")
def test_a_file_that_kills_its_process_is_named_and_the_rest_is_audited(tree):
    truncated_jpeg_image(tree)
    report = audit(read_by(DeadlyLabels(), mapped_splits(tree.root)), workers=2, progress=False)
    details = {o.file: o.detail for f in report.findings for o in f.examples}
    assert set(details) == {str(tree.image()), str(tree.image(TRAIN[8]))}
    assert details[str(tree.image(TRAIN[8]))] == "reading the frame ended the process, or used up its memory"
    assert report.to_dict()["classes"]["val"]["labelled"] > 0
    assert [part.frames for part in report.parts] == [12, 6]


def test_an_unforeseen_exception_of_a_reader_is_a_finding(tree):
    report = audit(read_by(StrangeLabels(), mapped_splits(tree.root)), workers=1, progress=False)
    (finding,) = report.findings
    assert (finding.check.name, finding.examples[0].file) == ("unreadable-mask", str(tree.mask(TRAIN[8])))
    assert finding.examples[0].detail == "RecursionError: too deep"


def test_no_frames_are_no_trouble():
    report = audit({"train": [], "val": []}, workers=2, progress=False)
    assert report.exit_code == 0 and report.findings == [] and report.to_dict()["datasets"] == []


def test_workers_below_1_are_refused(tree):
    with pytest.raises(ConfigError, match="workers is 0; an audit needs 1 or more"):
        audit(mapped_splits(tree.root), workers=0)


def test_a_script_without_a_guard_is_told_so(clean_root, tmp_path):
    """Otherwise every frame would be called deadly."""
    script = tmp_path / "unguarded.py"
    script.write_text(SLOW.replace('if __name__ == "__main__":', "if True:"))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'service'}"}
    command = [sys.executable, str(script), str(clean_root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert "ConfigError: the processes of the audit end before they begin: call it below `if" in done.stderr


def test_workers_are_without_torch():
    script = "import sys, roadseg.audit.scan\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {line.partition(".")[0] for line in done.stdout.splitlines()}
    assert loaded & {"torch", "lightning", "albumentations", "matplotlib"} == set()


SLOW = """
import signal, sys, time
from pathlib import Path
from roadseg.audit import audit, scan
from roadseg.data.label_files import IndexLabels
from tests.audit.conftest import mapped_splits
from tests.audit.test_scan import SlowLabels, read_by

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes inherit that it is ignored
    scan.INLINE_FRAMES, scan.CHUNK_FRAMES = 0, 1
    splits = read_by(SlowLabels(), mapped_splits(Path(sys.argv[1])))
    print("begin", flush=True)
    audit(splits, workers=2, progress=False)
"""


class SlowLabels(IndexLabels):
    """Takes a second a file, and says so."""

    def __call__(self, path: Path, size: tuple[int, int]) -> npt.NDArray[np.integer]:
        print("reading", os.getpid(), flush=True)
        time.sleep(1)
        return super().__call__(path, size)


def test_an_interrupt_leaves_no_process_behind(clean_root, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'service'}"}
    running = subprocess.Popen(
        [sys.executable, str(script), str(clean_root)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    lines = (line.split() for line in running.stdout)
    workers = {int(next(line[1] for line in lines if line[0] == "reading"))}
    os.killpg(running.pid, signal.SIGINT)  # what Ctrl-C does: every process of the group
    output, errors = running.communicate(timeout=60)
    workers |= {int(line.split()[1]) for line in output.splitlines() if line.startswith("reading")}
    assert "KeyboardInterrupt" in errors and running.returncode != 0
    assert len(output.splitlines()) < 12  # it did not finish first
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]

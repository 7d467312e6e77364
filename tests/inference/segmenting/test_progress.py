"""What a run tells while it goes on, where nobody sees a bar."""

import io
import sys

import pytest

from roadseg.errors import DataError
from roadseg.inference.segmenting.frame import Outcome
from roadseg.inference.segmenting.progress import Progress, told_rate


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def done(name="a.jpg"):
    return Outcome(name, {"image": name})


def test_without_a_terminal_there_is_a_line_a_minute(capsys):
    clock = Clock()
    with Progress(1000, clock) as progress:
        for _ in range(100):
            progress.report(Outcome("before.jpg"))  # done by an earlier run: fast, and not counted into the rate
        for _ in range(60):
            clock.now += 2
            progress.report(done())
        progress.report(Outcome("x.jpg", {}, DataError("cannot read x.jpg")))
        clock.now += 61
        progress.report(done())
        assert progress.reported == 162
    # In 60 s 30 images: 870 are left, at 0.5 a second; in 120 s 60, then 840; in 181 s 62, then 838, at 0.343.
    assert capsys.readouterr().err.splitlines() == [
        "130 of 1000 images, 0.5 images/s, 29:00 left, 100 done before",
        "160 of 1000 images, 0.5 images/s, 28:00 left, 100 done before",
        "error: cannot read x.jpg",
        "162 of 1000 images, 0.343 images/s, 40:46 left, 100 done before, 1 failed",
    ]


def test_frames_of_a_video_are_told_of_and_no_end_is_promised(capsys):
    clock = Clock()
    progress = Progress(1, clock)
    progress.video_frames(1)
    clock.now += 60
    progress.video_frames(3000)
    assert capsys.readouterr().err == "0 of 1 image, 3001 video frames\n"


@pytest.mark.parametrize("frames", [0, 5])
def test_on_a_terminal_there_is_the_bar_and_no_line(monkeypatch, frames):
    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(10, clock) as progress:
        clock.now += 600
        progress.report(done())
        if frames:
            progress.video_frames(frames)
        progress.report(Outcome("x.jpg", {}, DataError("cannot read x.jpg")))
    shown = terminal.getvalue().replace("\r", "\n")
    assert "2/10" in shown and "error: cannot read x.jpg\n" in shown and "done before" not in shown
    assert ("5 video frames" in shown) == bool(frames) and " of 10 images" not in shown


@pytest.mark.parametrize(
    ("frames", "said", "told"), [(6, 12, True), (12, 12, False), (588, 600, False), (580, 600, True)]
)
def test_a_video_that_ends_before_its_file_says_is_told(capsys, frames, said, told):
    row = {"video": "clip.mp4", "frames": frames, "frames_said": said}
    with Progress(1) as progress:
        progress.report(Outcome("clip.mp4", row, frames=frames))
    line = f"warning: clip.mp4: {frames} frames could be decoded, the file states {said}; if it is damaged, repair it"
    assert (line in capsys.readouterr().err) == told


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.3431, "0.343"), (48.0, "48"), (123.4, "123"), (99.96, "100"), (999.9, "1000"), (1234.5, "1234")],
)
def test_a_rate_is_told_without_powers_of_ten(rate, words):
    assert told_rate(rate) == f"{words} images/s"

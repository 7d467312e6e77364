"""`make demo` hands any file name over as it is."""

import os
import shutil
import subprocess

import pytest

from tests.test_demo import ROOT, write_script


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("place", ["argument", "environment"])
@pytest.mark.parametrize(
    "image", ["a b.jpg", "it's.jpg", 'say "hi".jpg', "cost$HOME.jpg", "$(shell touch made).jpg", "$(half.jpg", "-x.jpg"]
)
def test_make_hands_any_file_name_over(tmp_path, image, place):
    assert make_demo(tmp_path, image, place) == ["examples/demo.py", f"--image={image}"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_without_an_image(tmp_path):
    assert make_demo(tmp_path, None) == ["examples/demo.py"]


def make_demo(folder, image, place="argument"):
    """The arguments that `make demo` gives to Python."""
    write_script(folder / "python", "#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (folder / "ready").touch()
    settings = [f"READY={folder / 'ready'}", f"BIN={folder}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "IMAGE"}
    if image is not None and place == "argument":
        settings.append(f"IMAGE={image}")
    elif image is not None:
        environment["IMAGE"] = image
    done = subprocess.run(
        ["make", "-s", "-f", str(ROOT / "Makefile"), "demo", *settings],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()

"""The page of the service in a headless Chromium: finding one, and taking the page's picture with a mask in it."""

import os
import shutil
from pathlib import Path

EXECUTABLE_VARIABLE = "ROADSEG_CHROMIUM"

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")

ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",  # the browser itself asks nobody for anything
    "--disable-component-update",
    "--disable-sync",
)

WIDTH_PX, HEIGHT_PX = 1280, 800

TIMEOUT_MS = 60_000


def find_chromium() -> tuple[str | None, str]:
    """Path of a Chromium, and an empty text; or None, and why there is none."""
    named = os.environ.get(EXECUTABLE_VARIABLE)
    if named:
        found = shutil.which(named)
        return (found, "") if found else (None, f"{EXECUTABLE_VARIABLE} is '{named}', which is no program")
    for name in NAMES:
        if found := shutil.which(name):
            return found, ""
    return None, (
        f"no Chromium found: looked for {', '.join(NAMES)} in PATH; install one (on Debian and Ubuntu: apt install "
        f"chromium), or set {EXECUTABLE_VARIABLE} to its path"
    )


def photograph_page(url: str, upload: bytes, picture: Path) -> str:
    """Open the page of a running service, give it an image, and write the page with the mask as a PNG.

    Args:
        url: of the service.
        upload: the encoded image that is segmented.
        picture: the PNG to write; one of an earlier run is removed in any case.

    Returns:
        What to tell: where the picture is, or why there is none. Nothing that goes wrong here is raised.
    """
    executable, reason = find_chromium()
    try:
        picture.unlink(missing_ok=True)
        if executable is not None:
            _photograph(executable, url, upload, picture)
    except ModuleNotFoundError as error:
        reason = f"the package '{error.name}' is not installed; pip install -c constraints.txt '.[dev]'"
    except Exception as error:  # a browser fails in many ways, and none of them is a fault of what the demo shows
        reason = f"{executable}: {next(iter(str(error).splitlines()), type(error).__name__)}"
    return f"no picture of the page: {reason}" if reason else f"the page at {url}/ with the mask: {picture}"


def _photograph(executable: str, url: str, upload: bytes, picture: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS), timeout=TIMEOUT_MS)
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
        page.set_default_timeout(TIMEOUT_MS)
        answer = page.goto(f"{url}/")
        if answer is None or not answer.ok:
            raise RuntimeError(f"{url}/ was answered {answer and answer.status}")
        page.locator("#file").set_input_files({"name": "image", "mimeType": "", "buffer": upload})
        problem = page.get_by_role("alert")
        page.locator("body[data-shown=mask]").or_(problem).first.wait_for()
        if problem.is_visible():
            raise RuntimeError(f"the page says: {problem.inner_text()}")
        line = page.get_by_label("Before | after")
        line.fill("50")  # so that the picture tells what the page does
        line.blur()
        page.screenshot(path=picture, animations="disabled")
        browser.close()

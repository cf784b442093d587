"""Write the pictures of `docs/images/`: pages of a running demo, as Chromium shows them.

    python docs/make_screenshots.py [FOLDER]

Starts `dpiqa demo` with its own photographs (their licences are in `docs/installation.md`), and needs Chromium and the
dependency group `test`. With a FOLDER, the pages go there in every width and colour scheme, to be looked at.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
MAX_BYTES = 150_000  #: of a picture
_WIDE, _NARROW = (1280, 800), (360, 740)  #: pixels
_MARKED = 10  #: pictures that the form of a requirement begins with


def main() -> None:
    """Write the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with _demo() as url, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
        )
        for width, height in [_WIDE] if folder is None else [_WIDE, _NARROW]:
            schemes: list[Literal["light", "dark"]] = ["light"] if folder is None else ["light", "dark"]
            for scheme in schemes:
                context = browser.new_context(
                    base_url=url, viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB"
                )
                page = context.new_page()
                page.set_default_timeout(120_000)
                for name in _pages(page, for_docs=folder is None):
                    suffix = "" if folder is None else f"-{width}-{scheme}"
                    _write(page, (folder or IMAGES) / f"{name}{suffix}.webp", whole=folder is not None)
        browser.close()


def _pages(page: Page, *, for_docs: bool) -> Iterator[str]:
    """Open one page after another; yield the name of its picture. The documentation does not show all."""
    yield from _opened(page, "/", "overview")
    page.goto("/jobs")
    if not for_docs:
        yield "jobs"
    page.get_by_role("link", name=re.compile("^[0-9a-f]{8}")).first.click()
    page.wait_for_url(re.compile("/jobs/.+"))
    yield "job"
    yield from _opened(page, "/scores", "scores")
    for box in page.locator(".card input").all()[:_MARKED]:
        box.check()
    portrait = page.locator('.card[data-key^="astronaut"] a').first.get_attribute("href")
    page.get_by_role("button", name="Score by examples like these").click()
    page.wait_for_url("**/requirements/new")
    for level, score in enumerate(page.get_by_label("Score", exact=True).all()[:_MARKED]):
        score.fill(f"{level / (_MARKED - 1):.1f}")
    page.get_by_label("Name").fill("portraits")
    yield "requirement"
    if not for_docs:
        yield from _opened(page, "/requirements", "requirements")
    page.goto(portrait or "/")
    button = page.get_by_role("button", name="Which regions move the score?")
    if button.count():
        button.click()
    page.locator("#regions .map svg").wait_for()
    yield "image"


def _opened(page: Page, path: str, name: str) -> Iterator[str]:
    page.goto(path)
    page.wait_for_load_state("networkidle")
    yield name


def _write(page: Page, path: Path, *, whole: bool) -> None:
    """Write what the page shows, or all of it, in the best quality that is small enough."""
    page.wait_for_load_state("networkidle")
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    for quality in (90, 80, 65, 50):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=6)
        if len(buffer.getvalue()) <= MAX_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    sys.stdout.write(f"{path}: {len(buffer.getvalue()):,} bytes\n")


@contextmanager
def _demo() -> Iterator[str]:
    """Run the demo until its pictures are scored; yield the address of its pages."""
    with tempfile.TemporaryDirectory(prefix="dpiqa-screenshots-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o711)  # started by root, Postgres runs as `nobody`
        command = [sys.executable, "-m", "dpiqa", "demo", "--home", home]
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
        try:
            for line in demo.stdout or ():
                sys.stdout.write(line)
                if found := re.match(r"Pages\s+(\S+)/$", line):
                    yield found.group(1)
                    return
            raise SystemExit("the demo ended without the address of its pages")
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)


if __name__ == "__main__":
    main()

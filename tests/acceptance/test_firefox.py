"""The pages in Firefox, on a narrow screen: Debian's, driven by Puppeteer over WebDriver BiDi.

Playwright drives a Firefox of its own only, which no package of Debian has.
"""

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from support.site import KEY

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
pytestmark = [
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox: apt-get install firefox-esr"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm, with which Puppeteer is installed"),
    pytest.mark.slow,
]
PROGRAM = Path(__file__).with_name("firefox")


@pytest.fixture
def walk(tmp_path):
    """Give a function that runs `walk.mjs` and returns what it printed."""
    folder = tmp_path / "firefox"
    shutil.copytree(PROGRAM, folder)
    got = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=False, capture_output=True, text=True, timeout=120
    )
    if got.returncode:
        pytest.skip(f"Puppeteer cannot be had here: {got.stderr.strip()[-200:]}")

    def run(*arguments):
        command = ["node", "walk.mjs", FIREFOX, *arguments]
        return json.loads(subprocess.check_output(command, cwd=folder, text=True, timeout=240))

    return run


def test_the_pages_in_firefox(site, walk):
    job = site.submit()
    bucket = quote(site.bucket.name)
    paths = [
        f"/scores?bucket={bucket}",
        "/",
        "/jobs",
        f"/jobs/{job.id}",
        f"/image?bucket={bucket}&key=dark/00.png",
        f"/threshold?bucket={bucket}",
        "/requirements",
        "/requirements/new",
    ]
    found = walk(site.url, KEY, str(job.id), *paths)
    seen = found["seen"]
    assert found["faults"] == []
    assert {path: seen[path]["status"] for path in paths} == dict.fromkeys(paths, 200)
    assert all(seen[path]["title"] for path in paths)
    assert {path: seen[path]["width"] for path in paths if seen[path]["width"] > 360} == {}
    assert seen["picture"] > 0
    assert seen["bars"] == 1

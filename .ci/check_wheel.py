"""Build the source distribution, from it the wheel, install that into an empty environment and use it there.

Catches what an editable install hides: a package missing from the list, data files left behind, a second
top-level name that would overwrite other people's packages, a base install that needs an extra, an API that needs
torch, a page on PyPI whose links lead nowhere.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EX_CONFIG = 78
COMMIT = "0123456789ab"  #: said to be that of the build, which has no git
FOLDERS = ("dpiqa", "workers", "api", "migrations")
#: Needs nothing but the base install.
BASE_PROBE = """
import sys
import dpiqa, dpiqa.cli.main, dpiqa.migrations, dpiqa.pipeline.listener, dpiqa.pipeline.local_run
from dpiqa.models.cards import list_cards, verify
from dpiqa.profiles import list_profiles
cards = {card.name: card for card in list_cards()}
assert {"bundled-student", "bundled-teacher", "bundled-tiny"} <= cards.keys(), cards.keys()
for card in cards.values():
    verify(card)
assert any(profile.name == "default" for profile in list_profiles())
assert [row.state for row in dpiqa.score("photo.png", model="brightness")] == ["scored"]
"""
#: Needs the extras `api` and `worker`, and no torch.
SERVER_PROBE = """
import sys
import dpiqa.api.app, dpiqa.workers.app
assert "torch" not in sys.modules
"""
RUNS_ON_BASE = ("--help", "models list", "config show", "datasets list")
#: Command -> the extra that its one line must name.
NEEDS_EXTRA = {
    "api": "api",
    "worker student": "worker",
    "listen": "worker",
    "flower": "worker",
    "submit s3://photos/": "worker",
    "score photo.png": "models",
    "scores --output scores.parquet": "parquet",
    "demo": "demo",
    "train student": "train",
}
#: The services that commands ask for before they do anything; nothing connects to them.
SETTINGS = {
    "DPIQA_BROKER_URL": "redis://127.0.0.1:1/0",
    "DPIQA_DATABASE_URL": "postgresql://127.0.0.1:1/dpiqa",
    "DPIQA_QUEUE_URL": "http://127.0.0.1:1/events",
}


def build(folder: Path) -> Path:
    """Build from a copy: leftovers of earlier builds would end up in the wheel. Returns the wheel's path.

    The wheel is built from the source distribution, so that this one is known to be complete.
    """
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs" / "man", source / "docs" / "man")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"SOURCE_COMMIT": COMMIT})
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_metadata(wheel: Path) -> None:
    """Exit unless the files are fit for a package index, and every link of the README is absolute there."""
    files = [str(wheel), *map(str, wheel.parent.glob("*.tar.gz"))]
    # W004: names that no module may have. Those of the migrations begin with a digit; Alembic finds them by path.
    contents = ["check_wheel_contents", "--ignore", "W004", str(wheel)]
    for command in (["twine", "check", "--strict", *files], contents):
        done = subprocess.run([sys.executable, "-m", *command], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{command[0]}:\n{done.stdout}{done.stderr}")
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    relative = re.findall(r"\]\((?!https?:|#)[^)]*\)", archive.read(metadata).decode())
    if relative:
        sys.exit(f"links of the README that lead nowhere on PyPI: {relative}")


def check_names(wheel: Path) -> None:
    """Exit unless the wheel owns `dpiqa` and its man page alone, and holds every module and data file on disk."""
    names = zipfile.ZipFile(wheel).namelist()
    pages = [name for name in names if name.endswith(".data/data/share/man/man1/dpiqa.1")]
    if len(pages) != 1:
        sys.exit("the wheel has no man page")
    top = {name.split("/")[0] for name in names if ".dist-info" not in name and name not in pages}
    if top != {"dpiqa"}:
        sys.exit(f"the wheel owns {sorted(top)}, expected only dpiqa")
    for folder in FOLDERS:
        prefix = "" if folder == "dpiqa" else "dpiqa/"
        missing = {
            prefix + str(file.relative_to(ROOT))
            for file in (ROOT / folder).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
            if prefix + str(file.relative_to(ROOT)) not in names
        }
        if missing:
            sys.exit(f"not in the wheel: {sorted(missing)} (list the package, or its data, in pyproject.toml)")


def check_base_install(wheel: Path, folder: Path) -> None:
    """Install without extras; what needs none works, all else ends in one line that names the `pip install`."""
    install(str(wheel), folder)
    if f"(commit {COMMIT})" not in (line := run(folder, "dpiqa", "--version").stdout):
        sys.exit(f"dpiqa --version: {line}, expected the commit {COMMIT} of the build")
    image_code = "from PIL import Image; Image.new('RGB', (64, 64)).save('photo.png')"
    for code in (image_code, BASE_PROBE):
        run(folder, "python", "-c", code)
    for command in RUNS_ON_BASE:
        run(folder, "dpiqa", *command.split())
    for command, extra in NEEDS_EXTRA.items():
        done = run(folder, "dpiqa", *command.split(), expect=EX_CONFIG)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("loading ")]  # a note, no error
        if len(lines) != 1 or f"pip install 'dpiqa[{extra}]'" not in lines[0]:
            sys.exit(f"dpiqa {command}: expected one line about [{extra}], got:\n{done.stderr}")


def check_server_install(wheel: Path, folder: Path) -> None:
    """Add the extras of the API and the workers; both import, and neither brings torch."""
    install(f"{wheel}[api,worker]", folder)
    run(folder, "python", "-c", SERVER_PROBE)


def install(requirement: str, folder: Path) -> None:
    """Install into the environment `folder`."""
    run(folder, "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement)


def run(folder: Path, program: str, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment `folder` in that folder; exit if it ends with another code than `expect`."""
    command = [folder / "bin" / program, *arguments]
    done = subprocess.run(
        command, check=False, cwd=folder, env=os.environ | SETTINGS, capture_output=True, text=True, timeout=600
    )
    if done.returncode != expect:
        sys.exit(f"{program} {' '.join(arguments)}: exit code {done.returncode}, expected {expect}:\n{done.stderr}")
    return done


def main() -> None:
    """Run all checks; exits non-zero with one line on the first that fails."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        check_names(wheel)
        check_metadata(wheel)
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        check_base_install(wheel, environment)
        check_server_install(wheel, environment)
        size = wheel.stat().st_size / 1e6
    sys.stdout.write(f"wheel: {wheel.name}, {size:.1f} MB, owns dpiqa alone, runs on the base install\n")


if __name__ == "__main__":
    main()

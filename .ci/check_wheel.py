"""Build the wheel, install it into an empty environment and use it there.

Catches what an editable install hides: a package missing from the list, data files left behind, a second
top-level name that would overwrite other people's packages, an API that needs torch.
"""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import sys
import dpiqa.api.app, dpiqa.workers.app, dpiqa.pipeline.listener, dpiqa.cli.main, dpiqa.migrations
from dpiqa.models.cards import list_cards, verify
from dpiqa.profiles import list_profiles
cards = {card.name: card for card in list_cards()}
assert {"bundled-student", "bundled-teacher"} <= cards.keys(), cards.keys()
for card in cards.values():
    verify(card)
assert any(profile.name == "default" for profile in list_profiles())
assert "torch" not in sys.modules
"""


def build(folder: Path) -> Path:
    """Build from a copy without build leftovers -> the wheel's path."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_names(wheel: Path) -> None:
    """Exit unless the wheel owns `dpiqa` alone and holds every module on disk."""
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    if top != {"dpiqa"}:
        sys.exit(f"the wheel owns {sorted(top)}, expected only dpiqa")
    for folder in ("dpiqa", "workers", "api", "migrations"):
        prefix = "" if folder == "dpiqa" else "dpiqa/"
        missing = {
            prefix + str(file.relative_to(ROOT))
            for file in (ROOT / folder).rglob("*.py")
            if prefix + str(file.relative_to(ROOT)) not in names
        }
        if missing:
            sys.exit(f"not in the wheel: {sorted(missing)} (list the package in pyproject.toml)")


def check_install(wheel: Path, folder: Path) -> None:
    """Install without extras into an empty environment; import both sides; run the command."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel)], check=True)
    addresses = {"DPIQA_BROKER_URL": "redis://127.0.0.1:1/0"}  # the worker's app wants one; nothing connects to it
    subprocess.run([python, "-c", PROBE], check=True, cwd=folder, env=os.environ | addresses)
    for arguments in (["--help"], ["models", "list"], ["config", "show"]):
        subprocess.run([folder / "bin" / "dpiqa", *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)


def main() -> None:
    """Run all checks; exits non-zero with one line on the first that fails."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        check_names(wheel)
        check_install(wheel, Path(folder) / "venv")
        size = wheel.stat().st_size / 1e6
    sys.stdout.write(f"wheel: {wheel.name}, {size:.1f} MB, owns dpiqa alone, installs and runs without torch\n")


if __name__ == "__main__":
    main()

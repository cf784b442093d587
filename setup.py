"""Parts of the package that pyproject.toml cannot say: the commit of a build, and a README whose links work on PyPI.

The commit goes into `dpiqa/commit.txt` of the wheel and of the source distribution; `dpiqa --version` prints it. It is
git's, or `SOURCE_COMMIT` where the build has no git (containers), or that of the source distribution.
"""

import os
import re
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
PAGES = "https://github.com/dpiqa/dpiqa/blob/main/"


def write_commit(folder: Path) -> None:
    """Write `commit.txt` into the folder of the package `dpiqa` of a build, if the commit is known."""
    commit = os.environ.get("SOURCE_COMMIT", "")
    if not commit and (ROOT / ".git").exists():
        command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"]
        commit = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    if commit:
        (folder / "commit.txt").write_text(f"{commit}\n", "utf-8")


class BuildPy(build_py):
    """Copies the modules, then the commit. An editable install asks git when it is run."""

    def run(self) -> None:
        """Run the command."""
        super().run()
        if not self.editable_mode:
            write_commit(Path(self.build_lib, "dpiqa"))


class Sdist(sdist):
    """Adds the commit to the source distribution."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Make the folder that is archived."""
        super().make_release_tree(base_dir, files)
        write_commit(Path(base_dir, "dpiqa"))


setup(
    cmdclass={"build_py": BuildPy, "sdist": Sdist},
    long_description=re.sub(r"\]\((?!https?:|#)", f"]({PAGES}", (ROOT / "README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)

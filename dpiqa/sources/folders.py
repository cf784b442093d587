"""Files below a folder of this machine, for commands that read them themselves. Pure but for listing folders."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dpiqa.sources.names import is_no_image


@dataclass(slots=True)
class FoundFiles:
    """The files below a folder in a stable order, and the numbers of what was passed over, by what it is."""

    #: Links that lead nowhere and folders that cannot be read are among them: reading them says what is wrong.
    paths: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)

    def words(self) -> str:
        """Return what was passed over as text, `by name no image 3, hidden 1`; empty for nothing."""
        return ", ".join(f"{what} {n:,}" for what, n in sorted(self.passed_over.items()))


def find_files(folder: Path) -> FoundFiles:
    """Find the files below a folder. Hidden files and folders are passed over, and links to folders: they may be rings.

    Raises `OSError` where the folder itself cannot be read.
    """
    found = FoundFiles()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            entries = sorted(os.scandir(current), key=lambda entry: os.fsencode(entry.name))
        except OSError:
            if current == folder:
                raise
            found.paths.append(current)
            continue
        folders = list(_take(entries, found))
        waiting.extend(reversed(folders))
    return found


def _take(entries: list["os.DirEntry[str]"], found: FoundFiles) -> Iterator[Path]:
    """Add the files among the entries of a folder; yield its folders."""
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if not is_folder and is_no_image(entry.name):  # Apple's `._*` and `.DS_Store` are hidden, too
            found.passed_over["by name no image"] += 1
        elif entry.name.startswith("."):
            found.passed_over["hidden"] += 1
        elif is_folder:
            yield Path(entry.path)
        elif _leads_to_folder(entry):
            found.passed_over["links to folders"] += 1
        elif entry.is_symlink() or entry.is_file():
            found.paths.append(Path(entry.path))
        else:
            found.passed_over["neither files nor folders"] += 1


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False

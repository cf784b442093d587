"""Files below a folder of this machine, for commands that read them themselves."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dpiqa.imaging.formats import ALLOWED, sniff
from dpiqa.sources.names import is_no_image

_SIGNATURE_BYTES = 4096  #: enough for `sniff`
_MAX_KINDS = 8  #: kinds of files that are not images, in words


@dataclass(slots=True)
class PassedOver:
    """Numbers of files and folders that were passed over: by extension where they are not images, else by kind.

    An extension begins with a dot.
    """

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str) -> None:
        """Count one."""
        self.counts[what] += 1

    def add_no_image(self, name: str) -> None:
        """Count a file that is not an image, by its extension, or by its name where it has none."""
        stem, _, extension = name.rpartition(".")
        self.counts[f".{extension.lower()}" if stem else f".{name.lower().lstrip('.')}"] += 1

    def words(self) -> str:
        """Return the counts as text, `not images 3 (.txt 2, .xmp 1), hidden 1`; empty for nothing."""
        kinds = Counter({what: n for what, n in self.counts.items() if what.startswith(".")})
        words = [f"{what} {n:,}" for what, n in sorted(self.counts.items()) if what not in kinds]
        if kinds:
            most = [f"{kind} {n:,}" for kind, n in kinds.most_common(_MAX_KINDS)]
            if len(kinds) > _MAX_KINDS:
                most.append("others")
            words.insert(0, f"not images {kinds.total():,} ({', '.join(most)})")
        return ", ".join(words)


def find_files(folder: Path, passed_over: PassedOver | None = None, *, recursive: bool = True) -> Iterator[Path]:
    """Yield the files below a folder in a stable order, folder by folder; memory grows with the largest folder only.

    Hidden files and folders are passed over, and links to folders: they may be rings. So is a file whose name says
    that it is not an image (`is_no_image`), unless its first bytes are an image's. Links that lead nowhere and folders
    that cannot be read are among the files: reading them says what is wrong. Raises `OSError` where the folder itself
    cannot be read.
    """
    passed_over = passed_over or PassedOver()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    _sort_in(entry, files, folders, passed_over)
        except OSError:
            if current == folder:
                raise
            yield current
            continue
        for name in sorted(files, key=os.fsencode):
            yield current / name
        if recursive:
            waiting.extend(current / name for name in sorted(folders, key=os.fsencode, reverse=True))
        elif folders:
            passed_over.counts["folders"] += len(folders)


def _sort_in(entry: "os.DirEntry[str]", files: list[str], folders: list[str], passed_over: PassedOver) -> None:
    """Add an entry of a folder to its files or its folders, or count it as passed over."""
    name = entry.name
    if entry.is_dir(follow_symlinks=False):
        if name.startswith("."):
            passed_over.add("hidden")
        else:
            folders.append(name)
    elif name.startswith("._"):  # Apple's data beside a file
        passed_over.add("side-cars ._*")
    elif name.startswith("."):
        passed_over.add("hidden")
    elif _leads_to_folder(entry):
        passed_over.add("links to folders")
    elif not entry.is_symlink() and not entry.is_file():
        passed_over.add("neither files nor folders")
    elif is_no_image(name) and not _begins_as_image(entry.path):
        passed_over.add_no_image(name)
    else:
        files.append(name)


def _begins_as_image(path: str) -> bool:
    """Return whether the first bytes of a file are those of an image that can be decoded."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a DirEntry's path is text
            return sniff(file.read(_SIGNATURE_BYTES)) in ALLOWED
    except OSError:
        return False


def _leads_to_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False

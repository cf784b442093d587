"""A data set's folder on disk: what is there, whatever the case of its letters."""

import os
from pathlib import Path

from dpiqa.errors import InvalidRequest, NotFound

_SHOWN = 8  #: entries of a folder that an error message names


class Tree:
    """Finds files below a folder. Archives unpacked on other systems differ in the case of names, TID2013's do."""

    def __init__(self, root: Path) -> None:
        """Raise `NotFound` if `root` is no folder."""
        if not root.is_dir():
            raise NotFound(f"{root} is no folder", hint="name the folder that the data set was unpacked to")
        self.root = root
        self._entries: dict[Path, dict[str, str]] = {}

    def find(self, *names: str) -> Path | None:
        """Return the first of these paths, relative to the root, that exists; None if there is none."""
        return next((path for path in map(self._existing, names) if path is not None), None)

    def locate(self, folder: Path, name: str) -> tuple[Path, bool]:
        """Return the path of `name` in `folder` as it is written on disk, and whether it is there at all."""
        path = folder / name
        found = self._entry(path)
        return (path, False) if found is None else (path.with_name(found), True)

    def holds(self) -> str:
        """Say in words what lies directly in the root."""
        names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(self.root))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return ", ".join(names[:_SHOWN]) + more if names else "nothing"

    def below(self, *names: str) -> Path | None:
        """Return a folder directly in the root that holds one of these paths: people often name its parent."""
        folders = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        return next((self.root / folder for folder in folders for name in names if self.find(f"{folder}/{name}")), None)

    def _existing(self, name: str) -> Path | None:
        path = self.root
        for part in Path(name).parts:
            found = self._entry(path / part)
            if found is None:
                return None
            path /= found
        return path

    def _entry(self, path: Path) -> str | None:
        """Return the name of `path` in its folder: the very one, else one that differs in case alone."""
        names = self._names(path.parent)
        return names.get(path.name) or names.get(path.name.casefold())

    def _names(self, folder: Path) -> dict[str, str]:
        """Return names on disk by themselves and by their small letters; one listing serves a whole set."""
        if folder not in self._entries:
            there = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
            self._entries[folder] = {name.casefold(): name for name in there} | {name: name for name in there}
        return self._entries[folder]


def sibling(file: Path, *names: str) -> Path:
    """Return the first of `names` beside `file`. Raises `InvalidRequest` naming what is missing."""
    found = Tree(file.parent).find(*names)
    if found is None:
        raise InvalidRequest(f"{file.parent} has {file.name} and no {' or '.join(names)}", hint="it belongs to the set")
    return found

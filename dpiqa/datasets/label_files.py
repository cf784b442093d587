"""Files of a data set: label files (CSV, Excel, MATLAB) as rows, and folders whatever the case of their names."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dpiqa.datasets.spec import LabelRow, LayoutReader
from dpiqa.errors import ConfigurationError, InvalidRequest, NotFound

Column = str | int  #: by its name in the header, or by its number where the header is not known
_HEADER_WITHIN = 20  #: rows from the top; CSIQ's sheet begins with a title
_HINT = "install dpiqa[train]"
_NAMED_ENTRIES = 8  #: entries of a folder that an error message names


def read_columns(path: Path, columns: Sequence[Column], *, sheet: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the values of `columns` in each row below the header, stripped; rows without the first are skipped.

    Raises `InvalidRequest` naming the column that is missing.
    """
    rows = iter(read_rows(path, sheet=sheet))
    indices = _indices(path, rows, columns)
    for row in rows:
        values = tuple(row[index] if index < len(row) else "" for index in indices)
        if values[0]:
            yield values


def header(path: Path) -> list[str]:
    """Return the first row: the columns of a CSV."""
    return next(iter(read_rows(path)), [])


def read_rows(path: Path, *, sheet: str = "") -> Iterator[list[str]]:
    """Yield the rows of a CSV, or of an Excel file's sheet (the first if none has that name), as stripped text."""
    yield from _excel_rows(path, sheet) if path.suffix.lower() == ".xlsx" else _csv_rows(path)


def number(text: str, path: Path) -> float:
    """Read a score. Raises `InvalidRequest` naming the file for text that is not a number."""
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"{path}: {text!r} is not a score", hint="each image needs a number") from None


def read_matlab(path: Path, name: str) -> list[Any]:
    """Return variable `name` of a MATLAB file as a flat list of numbers or texts.

    Raises `InvalidRequest` if the file is damaged or has no such variable.
    """
    try:
        from scipy.io import loadmat  # noqa: PLC0415 - only data sets with MATLAB files need scipy
    except ImportError as error:
        raise ConfigurationError(f"{path.name} needs scipy", hint=_HINT) from error
    try:
        variables = loadmat(path, simplify_cells=True)
    except Exception as error:  # scipy documents none
        raise InvalidRequest(f"{path} cannot be read: {error}", hint="unpack the data set again") from error
    if name not in variables:
        names = ", ".join(key for key in variables if not key.startswith("__"))
        raise InvalidRequest(f"{path} has no variable {name}", hint=f"it has {names or 'none'}: is it the right file?")
    flat = variables[name]
    return list(flat.ravel()) if hasattr(flat, "ravel") else [flat]


def _indices(path: Path, rows: Iterator[list[str]], columns: Sequence[Column]) -> list[int]:
    """Read up to the header and return the indices of the columns."""
    named = [column for column in columns if isinstance(column, str)]
    first: list[str] = []
    for index, row in enumerate(rows):
        first = first or row
        if all(column in row for column in named):
            return [row.index(column) if isinstance(column, str) else column for column in columns]
        if index == _HEADER_WITHIN:
            break
    missing = next((column for column in named if column not in first), "rows")
    raise InvalidRequest(f"{path} has no column {missing!r}", hint=f"it has {', '.join(filter(None, first)) or 'none'}")


def _csv_rows(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from ([cell.strip() for cell in row] for row in csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{path} cannot be read as CSV: {error}", hint="save it as UTF-8") from error


def _excel_rows(path: Path, sheet: str) -> Iterator[list[str]]:
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - only data sets with Excel files need it
    except ImportError as error:
        raise ConfigurationError(f"{path.name} needs openpyxl", hint=_HINT) from error
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
        try:
            worksheet = workbook[sheet] if sheet in workbook.sheetnames else workbook.worksheets[0]
            for row in worksheet.iter_rows(values_only=True):
                yield ["" if cell is None else str(cell).strip() for cell in row]
        finally:
            workbook.close()
    except Exception as error:  # openpyxl lets errors of zip, XML and its own through
        raise InvalidRequest(f"{path} cannot be read: {error}", hint="unpack the data set again") from error


def table(
    image: Column,
    score: Column,
    *,
    file_name: Callable[[str], str] = str,
    subset: Callable[[str], str] = lambda _: "",
    group: Callable[[str], str] = lambda _: "",
    split: str = "",
) -> Callable[[Path], list[LabelRow]]:
    """Return a reader of a CSV or Excel file with one row for each image.

    `file_name` makes a file's name of the image column; `subset` and `group` get that name.
    """

    def rows(path: Path) -> list[LabelRow]:
        return [
            LabelRow(name, number(value, path), split, subset(name), group(name))
            for text, value in read_columns(path, (image, score))
            for name in (file_name(text),)
        ]

    return rows


def unified_list(file: str, *folders: str) -> LayoutReader:
    """Return a reader of a label list of the University of Waterloo's IQA-Dataset project.

    The project has one form for many sets. Its paths begin with the set's own folder, which is the root here.
    """

    def rows(path: Path) -> list[LabelRow]:
        references = ("ref_img_path",) if "ref_img_path" in header(path) else ()
        return [
            LabelRow(image.partition("/")[2], number(score, path), "", kind, Path(*reference).stem.casefold())
            for image, kind, score, *reference in read_columns(path, ("dis_img_path", "dis_type", "score", *references))
        ]

    return LayoutReader((file,), folders or ("",), rows)


class Tree:
    """Finds files below a folder. Archives unpacked on other systems differ in the case of names, as TID2013's do."""

    def __init__(self, root: Path) -> None:
        """Raise `NotFound` if `root` is not a folder."""
        if not root.is_dir():
            raise NotFound(f"{root} is not a folder", hint="name the folder that the data set was unpacked to")
        self.root = root
        self._entries: dict[Path, dict[str, str]] = {}

    def find(self, *names: str) -> Path | None:
        """Return the first of these paths, relative to the root, that exists; None if there is none."""
        return next((path for path in map(self._existing, names) if path is not None), None)

    def locate(self, folder: Path, name: str) -> tuple[Path, bool]:
        """Return the path of `name` in `folder` as it is written on disk, and whether it exists."""
        path = folder / name
        entry = self._entry(path)
        return (path, False) if entry is None else (path.with_name(entry), True)

    def holds(self) -> str:
        """Return the names directly in the root, in words."""
        names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(self.root))
        more = f" and {len(names) - _NAMED_ENTRIES} more" if len(names) > _NAMED_ENTRIES else ""
        return ", ".join(names[:_NAMED_ENTRIES]) + more if names else "nothing"

    def below(self, *names: str) -> Path | None:
        """Return a folder directly in the root that holds one of these paths: people often name its parent."""
        folders = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        return next((self.root / folder for folder in folders for name in names if self.find(f"{folder}/{name}")), None)

    def _existing(self, name: str) -> Path | None:
        path = self.root
        for part in Path(name).parts:
            entry = self._entry(path / part)
            if entry is None:
                return None
            path /= entry
        return path

    def _entry(self, path: Path) -> str | None:
        """Return the name of `path` in its folder: the same, else one that differs only in case."""
        names = self._names(path.parent)
        return names.get(path.name) or names.get(path.name.casefold())

    def _names(self, folder: Path) -> dict[str, str]:
        """Return names on disk by themselves and by their small letters; one listing serves a whole set."""
        if folder not in self._entries:
            names = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
            self._entries[folder] = {name.casefold(): name for name in names} | {name: name for name in names}
        return self._entries[folder]


def sibling(file: Path, *names: str) -> Path:
    """Return the first of `names` beside `file`. Raises `InvalidRequest` naming what is missing."""
    path = Tree(file.parent).find(*names)
    if path is None:
        raise InvalidRequest(f"{file.parent} has {file.name} and no {' or '.join(names)}", hint="it belongs to the set")
    return path

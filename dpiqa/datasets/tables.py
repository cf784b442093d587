"""Label files as rows of text: CSV, Excel and MATLAB."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpiqa.errors import ConfigurationError, InvalidRequest

Column = str | int  #: by its name in the header, or by its number where the header is not known
_HEADER_WITHIN = 20  #: rows from the top; CSIQ's sheet begins with a title
_HINT = "install dpiqa[train]"


def read_columns(path: Path, columns: Sequence[Column], *, sheet: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the values of `columns` in each row below the header, stripped; rows without the first are skipped.

    Raises `InvalidRequest` naming the column that is missing.
    """
    rows = iter(read_rows(path, sheet=sheet))
    places = _places(path, rows, columns)
    for row in rows:
        values = tuple(row[place] if place < len(row) else "" for place in places)
        if values[0]:
            yield values


def header(path: Path) -> list[str]:
    """Return the first row: the columns of a CSV."""
    return next(iter(read_rows(path)), [])


def read_rows(path: Path, *, sheet: str = "") -> Iterator[list[str]]:
    """Yield the rows of a CSV, or of an Excel file's sheet (the first if none has that name), as stripped text."""
    yield from _excel_rows(path, sheet) if path.suffix.lower() == ".xlsx" else _csv_rows(path)


def number(text: str, path: Path) -> float:
    """Read a score. Raises `InvalidRequest` naming the file for text that is no number."""
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"{path}: {text!r} is no score", hint="each image needs a number") from None


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
        there = ", ".join(key for key in variables if not key.startswith("__"))
        raise InvalidRequest(f"{path} has no variable {name}", hint=f"it has {there or 'none'}: is it the right file?")
    flat = variables[name]
    return list(flat.ravel()) if hasattr(flat, "ravel") else [flat]


def _places(path: Path, rows: Iterator[list[str]], columns: Sequence[Column]) -> list[int]:
    """Read up to the header and say where the columns are."""
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
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            chosen = book[sheet] if sheet in book.sheetnames else book.worksheets[0]
            for row in chosen.iter_rows(values_only=True):
                yield ["" if cell is None else str(cell).strip() for cell in row]
        finally:
            book.close()
    except Exception as error:  # openpyxl lets errors of zip, XML and its own through
        raise InvalidRequest(f"{path} cannot be read: {error}", hint="unpack the data set again") from error

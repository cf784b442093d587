"""Any CSV of paths and mean opinion scores: the layout for data of one's own."""

from pathlib import Path

from dpiqa.datasets.reading import DatasetSpec, Reader, Row
from dpiqa.datasets.splits import split_name
from dpiqa.datasets.tables import header, number, read_columns
from dpiqa.errors import InvalidRequest

#: What a column may be called, whatever its case.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "path", "file", "filename", "file_name", "image_name", "name"),
    "mos": ("mos", "score"),
    "split": ("split", "set"),
    "subset": ("subset",),
    "group": ("near_duplicate_group", "group"),
}
_NEEDED = ("image", "mos")


def _rows(path: Path) -> list[Row]:
    """Return the rows of a CSV with a path (relative to the file) and a score in each, and maybe more.

    Raises `InvalidRequest` naming a missing column, an image that is there twice, a split that only some rows have,
    or a group that lies in two splits.
    """
    found = _columns(path)
    rows = []
    for values in read_columns(path, tuple(found.values())):
        cells = dict(zip(found, values, strict=True))
        split = split_name(cells["split"]) if cells.get("split") else ""
        score = number(cells["mos"], path)
        rows.append(Row(cells["image"], score, split, cells.get("subset", ""), cells.get("group", "")))
    _check(rows, path)
    return rows


def _columns(path: Path) -> dict[str, int]:
    """Return the place of each kind of column that is there."""
    there = [name.casefold() for name in header(path)]
    found = {
        kind: there.index(name)
        for kind, names in COLUMNS.items()
        if (name := next((n for n in names if n in there), ""))
    }
    for kind in _NEEDED:
        if kind not in found:
            raise InvalidRequest(
                f"{path} has no column {kind}",
                hint=f"it needs {' and '.join(_NEEDED)}; split, subset, group may follow",
            )
    return found


def _check(rows: list[Row], path: Path) -> None:
    sides: dict[str, str] = {}
    seen: set[str] = set()
    for row in rows:
        if row.image in seen:
            raise InvalidRequest(f"{path} lists {row.image} twice", hint="keep one row an image")
        seen.add(row.image)
        if bool(row.split) != bool(rows[0].split):
            raise InvalidRequest(f"{path}: only some rows have a split", hint="fill the column, or leave it out")
        if row.group and sides.setdefault(row.group, row.split) != row.split:
            raise InvalidRequest(f"{path}: group {row.group} is in two splits", hint="keep a group on one side")


CSV = DatasetSpec(
    name="csv",
    title="a CSV of your own",
    size=0,
    worst=0,
    best=1,
    split="its column `split`, if there is one; else 80/20 at random, by its column `group`",
    groups="its column `group` (or `near_duplicate_group`)",
    layout=("labels.csv, or the CSV file itself: image, mos [, split, subset, group]", "images, relative to the CSV"),
    terms="yours",
    homepage="",
    citation="",
    readers=(Reader(("labels.csv",), ("",), _rows),),
    slack=0,
    note="`csv:1..5` says that the scale goes from 1 (worst) to 5 (best), `csv:100..0` that lower is better.",
)

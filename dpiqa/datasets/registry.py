"""Data sets by name, among them any CSV of paths and mean opinion scores."""

import re
from dataclasses import replace
from pathlib import Path

from dpiqa.datasets import photographs, synthetic
from dpiqa.datasets.label_files import header, number, read_columns
from dpiqa.datasets.spec import DatasetSpec, LabelRow, LayoutReader
from dpiqa.datasets.splits import split_name
from dpiqa.errors import InvalidRequest, NotFound

#: Names of the columns of a CSV, whatever their case.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "path", "file", "filename", "file_name", "image_name", "name", "key"),
    "mos": ("mos", "score"),
    "split": ("split", "set"),
    "subset": ("subset",),
    "group": ("near_duplicate_group", "group"),
}
_NEEDED = ("image", "mos")


def _csv_rows(path: Path) -> list[LabelRow]:
    """Return the rows of a CSV with a path (relative to the file) and a score in each, and maybe more.

    Raises `InvalidRequest` naming a missing column, an image that is listed twice, a split that only some rows have,
    or a group that lies in two splits.
    """
    columns = _csv_columns(path)
    rows = []
    for values in read_columns(path, tuple(columns.values())):
        cells = dict(zip(columns, values, strict=True))
        split = split_name(cells["split"]) if cells.get("split") else ""
        score = number(cells["mos"], path)
        rows.append(LabelRow(cells["image"], score, split, cells.get("subset", ""), cells.get("group", "")))
    _check_csv(rows, path)
    return rows


def _csv_columns(path: Path) -> dict[str, int]:
    """Return the index of each kind of column that the file has."""
    titles = [name.casefold() for name in header(path)]
    columns = {
        kind: titles.index(name)
        for kind, names in COLUMNS.items()
        if (name := next((n for n in names if n in titles), ""))
    }
    for kind in _NEEDED:
        if kind not in columns:
            raise InvalidRequest(
                f"{path} has no column {kind}",
                hint=f"it needs {' and '.join(_NEEDED)}; split, subset, group may follow",
            )
    return columns


def _check_csv(rows: list[LabelRow], path: Path) -> None:
    sides: dict[str, str] = {}
    seen: set[str] = set()
    for row in rows:
        if row.image in seen:
            raise InvalidRequest(f"{path} lists {row.image} twice", hint="keep one row for each image")
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
    readers=(LayoutReader(("labels.csv",), ("",), _csv_rows),),
    slack=0,
    note="`csv:1..5` says that the scale goes from 1 (worst) to 5 (best), `csv:100..0` that lower is better.",
)

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        photographs.KONIQ10K,
        photographs.CLIVE,
        photographs.FLIVE,
        photographs.SPAQ,
        photographs.BIQ2021,
        photographs.BID,
        synthetic.KADID10K,
        synthetic.TID2013,
        synthetic.LIVE,
        synthetic.CSIQ,
        synthetic.AGIQA3K,
        synthetic.AIGCIQA2023,
        photographs.GFIQA20K,
        photographs.UWIQA,
        CSV,
    )
}
_NUMBER = r"-?\d+(?:\.\d+)?"


def find_dataset(name: str) -> DatasetSpec:
    """Return the data set called `name`; `csv:WORST..BEST` is a CSV with labels on that scale.

    Raises `NotFound` for other names, `InvalidRequest` for a scale without extent.
    """
    scale = re.fullmatch(rf"csv:({_NUMBER})\.\.({_NUMBER})", name)
    if scale is None:
        if name not in DATASETS:
            raise NotFound(f"no data set {name!r}", hint=f"one of {', '.join(DATASETS)}; csv:WORST..BEST")
        return DATASETS[name]
    worst, best = float(scale[1]), float(scale[2])
    if worst == best:
        raise InvalidRequest(f"{name}: worst and best are the same", hint="csv:1..5, for instance")
    return replace(CSV, worst=worst, best=best)

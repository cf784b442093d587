"""Any CSV of images and their mean opinion scores: the format for data of one's own."""

import csv
from collections.abc import Iterable
from pathlib import Path

from dpiqa.datasets.labelled import LabelledImage
from dpiqa.errors import InvalidRequest

COLUMNS = ("image", "mos", "split", "near_duplicate_group")


def read_labels(csv_path: Path) -> list[LabelledImage]:
    """Rows of a CSV with the columns image (path relative to the file), mos, split, near_duplicate_group [, subset].

    Raises `InvalidRequest` naming a missing column, a score outside 0-1 or a group that lies in two splits.
    """
    with csv_path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise InvalidRequest(f"{csv_path} has no column {missing[0]}", cure=f"it needs {', '.join(COLUMNS)}")
        images = [_labelled(csv_path.parent, row) for row in reader]
    _check(images, csv_path)
    return images


def _labelled(folder: Path, row: dict[str, str]) -> LabelledImage:
    return LabelledImage(
        path=folder / row["image"],
        mos=float(row["mos"]),
        split=row["split"],
        subset=row.get("subset") or "",
        group=row["near_duplicate_group"],
    )


def _check(images: Iterable[LabelledImage], csv_path: Path) -> None:
    sides: dict[str, str] = {}
    for image in images:
        if not 0 <= image.mos <= 1:
            raise InvalidRequest(f"{csv_path}: mos {image.mos} of {image.path.name} is outside 0-1", cure="rescale it")
        if image.group and sides.setdefault(image.group, image.split) != image.split:
            raise InvalidRequest(
                f"{csv_path}: near-duplicate group {image.group} is in two splits", cure="keep a group on one side"
            )

"""Data sets on disk as labelled images, and a summary of one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpiqa.datasets.label_files import Tree
from dpiqa.datasets.registry import find_dataset
from dpiqa.datasets.spec import DatasetSpec, LabelledImage, LabelRow, LayoutReader
from dpiqa.datasets.splits import SPLITS, TRAIN_SHARE, assign, random_split, read_split_files, split_keys
from dpiqa.errors import InvalidRequest

BINS = 10  #: of the histogram of labels, each a tenth of MOS
RANDOM = "random"
PUBLISHED = "published"
_NAMED_FILES = 5  #: missing files that a summary names


@dataclass(frozen=True, slots=True)
class Dataset:
    """All labelled images of a set, including those whose file is missing: nothing is dropped in silence."""

    spec: DatasetSpec
    root: Path
    labels: Path  #: the label file
    images: tuple[LabelledImage, ...]
    missing: tuple[Path, ...]  #: files of `images` that do not exist; scoring them fails, and the failure is counted
    split: str  #: origin of the splits, in words

    def of(self, split: str) -> tuple[LabelledImage, ...]:
        """Return the images of one split."""
        return tuple(image for image in self.images if image.split == split)


def load_dataset(
    name: str,
    root: Path,
    *,
    split: str | Path = PUBLISHED,
    split_seed: int = 0,
    val_share: float = 0.0,
    without_images: bool = False,
) -> Dataset:
    """Read the labels of data set `name` in its published layout below `root` (for `csv`: the file or its folder).

    Labels are MOS from 0 to 1, higher is better, on the set's fixed scale. `split` is `published` (the official one
    where there is one, else random), `random` (80/20 from `split_seed`, groups on one side), or a folder of split
    files as LIQE publishes them. `val_share` (0-1) of the training side becomes `val` if the set has no `val`.

    Images that are listed and whose file is missing stay in the result and are named in `missing`; if all files are
    missing, the layout is wrong, unless `without_images`.

    Raises `NotFound` for an unknown name or folder, and `InvalidRequest` naming the expected file and the files found,
    or the label that is not valid.
    """
    spec = find_dataset(name)
    tree, labels, reader = _open(spec, root)
    rows = list(reader.rows(labels))
    if not rows:
        raise InvalidRequest(f"{labels} lists no images", hint=_expected(spec))
    folder = tree.find(*filter(None, reader.folders)) or (tree.root if "" in reader.folders else None)
    files = [tree.locate(folder or tree.root / reader.folders[0], row.image) for row in rows]
    missing = tuple(path for path, exists in files if not exists)
    if len(missing) == len(rows) and not without_images:
        raise InvalidRequest(
            f"none of the {len(missing)} images listed in {labels} exists; the first is expected at {missing[0]}; "
            f"{tree.root} holds {tree.holds()}",
            hint=_expected(spec),
        )
    sides, origin = _sides(rows, spec, split, split_seed)
    if val_share and "val" not in sides:
        sides = _with_val(rows, sides, val_share, split_seed)
    images = tuple(
        LabelledImage(path=path, mos=_mos(row, spec, labels), split=side, subset=row.subset, group=row.group)
        for row, (path, _), side in zip(rows, files, sides, strict=True)
    )
    return Dataset(spec=spec, root=root, labels=labels, images=images, missing=missing, split=origin)


def _open(spec: DatasetSpec, root: Path) -> tuple[Tree, Path, LayoutReader]:
    """Find the layout on disk. Raises `InvalidRequest` naming the expected file and the files found."""
    if spec.name == "csv" and root.is_file():
        return Tree(root.parent), root, spec.readers[0]
    tree = Tree(root)
    for reader in spec.readers:
        if (labels := tree.find(*reader.files)) and labels.is_file():
            return tree, labels, reader
    names = [name for reader in spec.readers for name in reader.files]
    inside = tree.below(*names)
    raise InvalidRequest(
        f"{root} is not {spec.title}: it has no {names[0]}; it holds {tree.holds()}",
        hint=f"name {inside} instead: it has the labels" if inside else _expected(spec),
    )


def _expected(spec: DatasetSpec) -> str:
    return f"{spec.title} is expected as " + "; ".join(spec.layout)


def _mos(row: LabelRow, spec: DatasetSpec, labels: Path) -> float:
    mos = spec.normalised(row.score)
    if not -spec.slack <= mos <= 1 + spec.slack:  # NaN too
        scale = "its scale is named by csv:WORST..BEST" if spec.name == "csv" else "is it the published file?"
        raise InvalidRequest(
            f"{labels}: {spec.label} {row.score} of {row.image} is outside {spec.worst:g} to {spec.best:g}", hint=scale
        )
    return min(1.0, max(0.0, mos))  # in this order: -0.0 becomes 0.0


def _sides(rows: Sequence[LabelRow], spec: DatasetSpec, split: str | Path, seed: int) -> tuple[list[str], str]:
    """Return the split of each row, and the origin of the splits in words."""
    if split not in (PUBLISHED, RANDOM):
        folder = Path(split)
        return assign([Path(row.image) for row in rows], read_split_files(folder)), f"files in {folder}"
    if split == PUBLISHED and all(row.split for row in rows):
        return [row.split for row in rows], PUBLISHED
    sides = ["test"] * len(rows)
    for row in random_split(_keys(rows), seed=seed).train:
        sides[row] = "train"
    by = f", by {spec.groups}" if any(row.group for row in rows) else ""
    return sides, f"random {TRAIN_SHARE:.0%} to train, seed {seed}{by}"


def _with_val(rows: Sequence[LabelRow], sides: Sequence[str], share: float, seed: int) -> list[str]:
    training = [index for index, side in enumerate(sides) if side == "train"]
    divided = random_split(_keys([rows[index] for index in training]), seed=seed, train_share=1 - share)
    result = list(sides)
    for number in divided.test:
        result[training[number]] = "val"
    return result


def _keys(rows: Sequence[LabelRow]) -> list[str]:
    return split_keys([Path(row.image) for row in rows], [row.group for row in rows])


def summary(dataset: Dataset) -> dict[str, Any]:
    """Return counts by split and subset, the histogram of labels (MOS, 0-1) and the missing files, fit for JSON."""
    images, labels = dataset.images, [image.mos for image in dataset.images]
    tenths = Counter(min(int(label * BINS), BINS - 1) for label in labels)  # 1 belongs to the last
    return {
        "dataset": dataset.spec.name,
        "labels": str(dataset.labels),
        "images": len(images),
        "published": dataset.spec.size or None,
        "missing": len(dataset.missing),
        "missing_first": [str(path) for path in dataset.missing[:_NAMED_FILES]],
        "split": dataset.split,
        "splits": _counts((image.split for image in images), SPLITS),
        "subsets": {
            subset: _counts((image.split for image in images if image.subset == subset), SPLITS)
            for subset in sorted({image.subset for image in images} - {""})
        },
        "groups": len({image.group for image in images} - {""}),
        "groups_on_two_sides": _groups_on_two_sides(dataset),
        "mos": {"lowest": min(labels), "mean": sum(labels) / len(labels), "highest": max(labels)},
        "histogram": [tenths[index] for index in range(BINS)],
    }


def _counts(splits: Iterable[str], order: Iterable[str]) -> dict[str, int]:
    counts = Counter(splits)
    return {split: counts[split] for split in order if counts[split]}


def _groups_on_two_sides(dataset: Dataset) -> int:
    """Count groups that an official split divides: models trained on the rest do better on its test images."""
    sides: dict[str, set[str]] = defaultdict(set)
    for image in dataset.images:
        if image.group:
            sides[image.group].add(image.split)
    return sum(len(splits) > 1 for splits in sides.values())

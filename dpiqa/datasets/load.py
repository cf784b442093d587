"""A data set on disk as labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpiqa.datasets.labelled import LabelledImage
from dpiqa.datasets.reading import DatasetSpec, Reader, Row
from dpiqa.datasets.registry import find_dataset
from dpiqa.datasets.splits import TRAIN_SHARE, assign, random_split, read_split_files, split_keys
from dpiqa.datasets.tree import Tree
from dpiqa.errors import InvalidRequest

RANDOM = "random"
PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Dataset:
    """All labelled images of a set, those too whose file is missing: nothing is dropped in silence."""

    spec: DatasetSpec
    root: Path
    labels: Path  #: the label file
    images: tuple[LabelledImage, ...]
    missing: tuple[Path, ...]  #: files of `images` that are not there; scoring them fails, and the failure is counted
    split: str  #: where the splits come from, in words

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

    Images that are listed but not there stay in the result and are named in `missing`; if that is all of them, the
    layout is wrong, unless `without_images`.

    Raises `NotFound` for an unknown name or folder, `InvalidRequest` saying which file was expected and what is there,
    or which label is none.
    """
    spec = find_dataset(name)
    tree, labels, reader = _open(spec, root)
    rows = list(reader.rows(labels))
    if not rows:
        raise InvalidRequest(f"{labels} lists no images", hint=_expected(spec))
    folder = tree.find(*filter(None, reader.folders)) or (tree.root if "" in reader.folders else None)
    places = [tree.locate(folder or tree.root / reader.folders[0], row.image) for row in rows]
    missing = tuple(path for path, there in places if not there)
    if len(missing) == len(rows) and not without_images:
        raise _no_images(spec, tree, labels, missing)
    sides, origin = _sides(rows, spec, split, split_seed)
    if val_share and "val" not in sides:
        sides = _with_val(rows, sides, val_share, split_seed)
    images = tuple(
        LabelledImage(path=path, mos=_mos(row, spec, labels), split=side, subset=row.subset, group=row.group)
        for row, (path, _), side in zip(rows, places, sides, strict=True)
    )
    return Dataset(spec=spec, root=root, labels=labels, images=images, missing=missing, split=origin)


def _open(spec: DatasetSpec, root: Path) -> tuple[Tree, Path, Reader]:
    """Find the layout that is there. Raises `InvalidRequest` saying which file was expected and what is there."""
    if spec.name == "csv" and root.is_file():
        return Tree(root.parent), root, spec.readers[0]
    tree = Tree(root)
    for reader in spec.readers:
        if (labels := tree.find(*reader.files)) and labels.is_file():
            return tree, labels, reader
    names = [name for reader in spec.readers for name in reader.files]
    inside = tree.below(*names)
    raise InvalidRequest(
        f"{root} is no {spec.title}: it has no {names[0]}; it holds {tree.holds()}",
        hint=f"name {inside} instead: it has the labels" if inside else _expected(spec),
    )


def _no_images(spec: DatasetSpec, tree: Tree, labels: Path, missing: Sequence[Path]) -> InvalidRequest:
    return InvalidRequest(
        f"none of the {len(missing)} images listed in {labels} is there; the first is expected at {missing[0]}; "
        f"{tree.root} holds {tree.holds()}",
        hint=_expected(spec),
    )


def _expected(spec: DatasetSpec) -> str:
    return f"{spec.title} is expected as " + "; ".join(spec.layout)


def _mos(row: Row, spec: DatasetSpec, labels: Path) -> float:
    mos = spec.normalised(row.score)
    if not -spec.slack <= mos <= 1 + spec.slack:  # NaN too
        scale = "its scale is named by csv:WORST..BEST" if spec.name == "csv" else "is it the published file?"
        raise InvalidRequest(
            f"{labels}: {spec.label} {row.score} of {row.image} is outside {spec.worst:g} to {spec.best:g}", hint=scale
        )
    return min(1.0, max(0.0, mos))  # in this order: -0.0 becomes 0.0


def _sides(rows: Sequence[Row], spec: DatasetSpec, split: str | Path, seed: int) -> tuple[list[str], str]:
    """Return the split of each row, and where it comes from in words."""
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


def _with_val(rows: Sequence[Row], sides: Sequence[str], share: float, seed: int) -> list[str]:
    training = [number for number, side in enumerate(sides) if side == "train"]
    kept = random_split(_keys([rows[number] for number in training]), seed=seed, train_share=1 - share)
    changed = list(sides)
    for number in kept.test:
        changed[training[number]] = "val"
    return changed


def _keys(rows: Sequence[Row]) -> list[str]:
    return split_keys([Path(row.image) for row in rows], [row.group for row in rows])

"""What a data set on disk comes to: numbers that tell whether it is the one that was meant."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from dpiqa.datasets.load import Dataset
from dpiqa.datasets.splits import SPLITS

BINS = 10  #: of the histogram of labels, each a tenth of MOS
_NAMED = 5  #: missing files named


def summary(dataset: Dataset) -> dict[str, Any]:
    """Return counts by split and subset, the histogram of labels (MOS, 0-1) and the missing files, fit for JSON."""
    images, labels = dataset.images, [image.mos for image in dataset.images]
    return {
        "dataset": dataset.spec.name,
        "labels": str(dataset.labels),
        "images": len(images),
        "published": dataset.spec.size or None,
        "missing": len(dataset.missing),
        "missing_first": [str(path) for path in dataset.missing[:_NAMED]],
        "split": dataset.split,
        "splits": _counts((image.split for image in images), SPLITS),
        "subsets": {
            subset: _counts((image.split for image in images if image.subset == subset), SPLITS)
            for subset in sorted({image.subset for image in images} - {""})
        },
        "groups": len({image.group for image in images} - {""}),
        "groups_on_two_sides": _groups_on_two_sides(dataset),
        "mos": {"lowest": min(labels), "mean": sum(labels) / len(labels), "highest": max(labels)},
        "histogram": _histogram(labels),
    }


def _counts(splits: Iterable[str], order: Iterable[str]) -> dict[str, int]:
    found = Counter(splits)
    return {split: found[split] for split in order if found[split]}


def _histogram(labels: Iterable[float]) -> list[int]:
    """Count labels by tenths; 1 belongs to the last."""
    found = Counter(min(int(label * BINS), BINS - 1) for label in labels)
    return [found[place] for place in range(BINS)]


def _groups_on_two_sides(dataset: Dataset) -> int:
    """Count groups that an official split has torn: figures on its test images flatter whoever trained on the rest."""
    sides: dict[str, set[str]] = defaultdict(set)
    for image in dataset.images:
        if image.group:
            sides[image.group].add(image.split)
    return sum(len(found) > 1 for found in sides.values())

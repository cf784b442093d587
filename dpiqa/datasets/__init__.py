"""Image quality data sets in their published layouts, as images with labels from 0 to 1, higher is better."""

from dpiqa.datasets.load import Dataset, load_dataset
from dpiqa.datasets.registry import DATASETS, find_dataset
from dpiqa.datasets.spec import LabelledImage
from dpiqa.datasets.splits import SplitRows, five_splits, random_split

__all__ = [
    "DATASETS",
    "Dataset",
    "LabelledImage",
    "SplitRows",
    "find_dataset",
    "five_splits",
    "load_dataset",
    "random_split",
]

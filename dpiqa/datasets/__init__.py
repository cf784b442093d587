"""Image quality data sets in their published layouts, as images with labels from 0 to 1, higher better."""

from dpiqa.datasets.labelled import LabelledImage
from dpiqa.datasets.load import Dataset, load_dataset
from dpiqa.datasets.registry import DATASETS, find_dataset
from dpiqa.datasets.splits import Split, five_splits, random_split

__all__ = [
    "DATASETS",
    "Dataset",
    "LabelledImage",
    "Split",
    "find_dataset",
    "five_splits",
    "load_dataset",
    "random_split",
]

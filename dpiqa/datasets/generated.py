"""Sets of images that models drew from a prompt."""

from pathlib import Path

from dpiqa.datasets.photographs import NOT_STATED
from dpiqa.datasets.reading import DatasetSpec, Reader, Row, table
from dpiqa.datasets.tables import read_matlab

AGIQA3K = DatasetSpec(
    name="agiqa3k",
    title="AGIQA-3K",
    size=2_982,
    worst=0,
    best=5,
    split="none: 80/20 at random",
    layout=("data.csv", "*.jpg, in the same folder or in img/ or images/"),
    terms="labels MIT; images not stated",
    homepage="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    citation="Li et al., AGIQA-3K, IEEE TCSVT 34(8), 2024",
    readers=(
        Reader(
            ("data.csv",),
            ("img", "images", "AGIQA-3K", ""),
            table("name", "mos_quality", subset=lambda name: name.split("_")[0]),
        ),
    ),
    note="Quality, not alignment with the prompt. Images of one prompt may lie on both sides of a split.",
)

_IMAGES_PER_MODEL = 400


def _aigciqa2023(path: Path) -> list[Row]:
    """Read the scores of 0.png, 1.png, ...: six models in turn, 100 prompts of four images each."""
    return [
        Row(f"{number}.png", float(score), "", f"model {number // _IMAGES_PER_MODEL + 1}")
        for number, score in enumerate(read_matlab(path, "MOSz"))
    ]


AIGCIQA2023 = DatasetSpec(
    name="aigciqa2023",
    title="AIGCIQA2023",
    size=2_400,
    worst=0,
    best=100,
    split="none: 80/20 at random",
    layout=("DATA/MOS/mosz1.mat", "Image/allimg/0.png, ..."),
    terms=NOT_STATED,
    homepage="https://github.com/wangjiarui153/AIGCIQA2023",
    citation="Wang et al., AIGCIQA2023, arXiv 2307.00211, 2023",
    readers=(Reader(("DATA/MOS/mosz1.mat",), ("Image/allimg", "Image"), _aigciqa2023),),
    note="Quality (mosz1), not authenticity or correspondence. Images of one prompt may lie on both sides of a split.",
)

"""Figures that papers report, shown beside our own measurements. None of them was measured by this project.

Figures of PromptIQA are those of a public reading note of its paper, for the four of its twelve sets that the note has:
its own table was not at hand. They say so wherever they are shown.
"""

from dataclasses import dataclass

_DPIQA = "DP-IQA (arXiv 2405.19996), "
_IN_SET = _DPIQA + "Table IV: median of five random 80/20 splits"
_ZERO_SHOT = _DPIQA + "Table V: zero-shot"
_PROMPTIQA = "PromptIQA (arXiv 2403.04993), one model for twelve sets; from a reading note, not checked"
_BIQ2021 = "as published for BIQ2021's official test split"


@dataclass(frozen=True, slots=True)
class Published:
    """One figure of a paper."""

    dataset: str  #: tested on; name as `dpiqa evaluate scores --dataset` takes it
    model: str
    trained_on: str  #: name of the data set; equal to `dataset` within a set
    srcc: float
    plcc: float | None  #: None: not reported, or not known to us
    source: str


def _in_set(dataset: str, teacher: tuple[float, float], student: tuple[float, float]) -> list[Published]:
    return [
        Published(dataset, f"DP-IQA {name}", dataset, srcc, plcc, _IN_SET)
        for name, (srcc, plcc) in (("teacher", teacher), ("student", student))
    ]


def _zero_shot(trained_on: str, dataset: str, teacher: float, student: float) -> list[Published]:
    return [
        Published(dataset, f"DP-IQA {name}", trained_on, srcc, None, _ZERO_SHOT)
        for name, srcc in (("teacher", teacher), ("student", student))
    ]


TABLE: tuple[Published, ...] = (
    *_in_set("clive", (0.893, 0.913), (0.875, 0.902)),
    *_in_set("koniq10k", (0.942, 0.951), (0.926, 0.944)),
    *_in_set("flive", (0.579, 0.683), (0.567, 0.671)),
    *_in_set("spaq", (0.923, 0.926), (0.920, 0.923)),
    *_zero_shot("flive", "koniq10k", 0.771, 0.767),
    *_zero_shot("flive", "clive", 0.770, 0.758),
    *_zero_shot("clive", "koniq10k", 0.766, 0.781),
    *_zero_shot("koniq10k", "clive", 0.833, 0.830),
    *(
        Published(dataset, "PromptIQA", dataset, srcc, plcc, _PROMPTIQA)
        for dataset, srcc, plcc in (
            ("bid", 0.9152, 0.9341),
            ("clive", 0.9125, 0.9280),
            ("gfiqa20k", 0.9698, None),
            ("uwiqa", 0.8766, None),
        )
    ),
    *(
        Published("biq2021", model, "biq2021", srcc, None, _BIQ2021)
        for model, srcc in (
            ("BRISQUE", 0.60),
            ("ResNet-50 (ImageNet)", 0.65),
            ("NASNet-Large (ImageNet)", 0.67),
            ("SGL-IQA", 0.71),
            ("DeepEns", 0.79),
        )
    ),
)


def published(dataset: str) -> list[Published]:
    """Return the figures that papers report on a data set, within the set first; empty if none are known."""
    rows = [row for row in TABLE if row.dataset == dataset]
    return sorted(rows, key=lambda row: row.trained_on != dataset)

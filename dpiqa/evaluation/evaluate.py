"""A scorer against human scores: the very decoding, preprocessing and scorer that production uses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpiqa.errors import ImageRejected, InvalidRequest
from dpiqa.evaluation.correlation import Agreement, agreement, srcc_interval
from dpiqa.imaging.decode import decode_and_prepare
from dpiqa.imaging.limits import Limits
from dpiqa.models.base import Scorer
from dpiqa.training.dataset import LabelledImage


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came out. Images that could not be scored are counted, never dropped in silence."""

    scorer_id: str
    overall: Agreement
    interval: tuple[float, float]  #: 95 % bootstrap interval of the overall SRCC
    subsets: dict[str, Agreement]
    slope: float  #: of the line that maps scores to labels; 1 is perfect
    offset: float  #: of that line; 0 is perfect
    failures: dict[str, str]  #: path -> reason
    scores: np.ndarray  #: (n,), in the order of `paths`
    paths: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a card or a report."""
        return {
            **self.overall.as_dict(),
            "srcc_95": [round(bound, 4) for bound in self.interval],
            "slope": round(self.slope, 3),
            "offset": round(self.offset, 3),
            "subsets": {name: figures.as_dict() for name, figures in self.subsets.items()},
            "failures": len(self.failures),
        }


def evaluate(scorer: Scorer, images: Sequence[LabelledImage], *, batch: int = 8) -> Evaluation:
    """Score every image from its file's bytes and compare with its label. Raises `InvalidRequest` if none decodes."""
    failures: dict[str, str] = {}
    scored: list[LabelledImage] = []
    parts: list[np.ndarray] = []
    for start in range(0, len(images), batch):
        chunk = list(_decoded(scorer, images[start : start + batch], failures))
        if chunk:
            scored += [image for image, _ in chunk]
            parts.append(scorer.score(np.stack([pixels for _, pixels in chunk])))
    if len(scored) < 2:
        raise InvalidRequest(f"{len(scored)} of {len(images)} images could be scored", cure="check the labels file")
    return _summary(scorer.card.scorer_id, scored, np.concatenate(parts), failures)


def _decoded(
    scorer: Scorer, images: Sequence[LabelledImage], failures: dict[str, str]
) -> Iterator[tuple[LabelledImage, np.ndarray]]:
    limits = Limits()
    for image in images:
        try:
            yield image, decode_and_prepare(image.path.read_bytes(), scorer.card.preprocessing, limits)
        except ImageRejected as error:
            failures[str(image.path)] = error.reason.value


def _summary(scorer_id: str, images: list[LabelledImage], scores: np.ndarray, failures: dict[str, str]) -> Evaluation:
    labels = np.array([image.mos for image in images])
    names = np.array([image.subset for image in images])
    slope, offset = np.polyfit(scores, labels, 1)
    return Evaluation(
        scorer_id=scorer_id,
        overall=agreement(scores, labels),
        interval=srcc_interval(scores, labels),
        subsets={name: agreement(scores[names == name], labels[names == name]) for name in sorted(set(names)) if name},
        slope=float(slope),
        offset=float(offset),
        failures=failures,
        scores=scores,
        paths=tuple(str(image.path) for image in images),
    )

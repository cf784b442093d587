"""Scales, percentiles and bands of many scores at once: as `dpiqa.percentiles` says for one, by numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, select

from dpiqa.percentiles import CUTS, POINTS, Reference
from dpiqa.storage.references import read_references
from dpiqa.storage.tables import scorers
from dpiqa.types import Band, Direction

_BANDS = np.array([band.value for band in Band], dtype=object)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Columns beside a column of scores. None where there is no score, or its scorer has no reference."""

    scales: list[str | None]
    percentiles: list[float | None]
    bands: list[str | None]


class Ranks:
    """The scales and references of the scorers met so far. They are read once: one export uses one reference."""

    def __init__(self) -> None:
        self._scales: dict[str, str] = {}
        self._references: dict[str, Reference] = {}

    def rank(self, c: Connection, scorer_ids: Sequence[str | None], scores: Sequence[float | None]) -> Ranked:
        """Rank scores, each by its scorer."""
        present = {scorer_id for scorer_id in scorer_ids if scorer_id is not None}
        if new := present - self._scales.keys():
            query = select(scorers.c.id, scorers.c.card["score_scale"].astext.label("scale"))
            self._scales |= {row.id: row.scale for row in c.execute(query.where(scorers.c.id.in_(new)))}
            self._references |= read_references(c, new)
        n = len(scores)
        percentiles, bands = np.full(n, None, dtype=object), np.full(n, None, dtype=object)
        by_scorer: np.ndarray = np.array(scorer_ids, dtype=object)
        values = np.array(scores, dtype=float)  # None is NaN
        for scorer_id in present & self._references.keys():
            rows = by_scorer == scorer_id
            percentiles[rows], bands[rows] = rank_by(self._references[scorer_id], values[rows])
        scales = [None if scorer_id is None else self._scales[scorer_id] for scorer_id in scorer_ids]
        return Ranked(scales, percentiles.tolist(), bands.tolist())


def rank_by(reference: Reference, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `Reference.percentile` and `Reference.band` of scores, all of them finite."""
    sign = -1.0 if reference.direction is Direction.LOWER else 1.0
    worst_first, oriented = np.sort(sign * np.array(reference.quantiles)), sign * scores
    index = np.searchsorted(worst_first, oriented, side="right")
    inside = np.clip(index, 1, POINTS - 1)
    low, high = worst_first[inside - 1], worst_first[inside]
    with np.errstate(divide="ignore", invalid="ignore"):  # of places outside, which are not used
        between = inside - 1 + (oriented - low) / (high - low)
    percentiles = np.where(index == 0, 0.0, np.where(index == POINTS, 100.0, between))
    cuts = sign * np.array([reference.score_at(cut) for cut in CUTS])
    return percentiles, _BANDS[np.searchsorted(cuts, oriented, side="right")]

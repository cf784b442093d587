"""References, percentiles, bands and shares: the meaning of a score without an archive. Pure, free of numpy.

A *reference* is the distribution of one scorer's scores over a stated population. It turns a score into a percentile,
the share of that population that scores worse, and into a *band*, a word. Bands are shares of the population, not
fifths of the MOS scale: predicted scores cluster around the mean, so that fifths would leave the outer bands empty.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dpiqa.errors import InvalidRequest
from dpiqa.scorer_id import ScorerId
from dpiqa.types import Band, Direction

#: Percentile of the reference population at which each band but the worst begins: worst 10 % bad, next 20 % poor,
#: middle 40 % fair, next 20 % good, best 10 % excellent.
CUTS: tuple[float, ...] = (10, 30, 70, 90)
_BANDS = tuple(Band)  # from worst to best
POINTS = 101  #: quantiles of a reference: at 0, 1, ..., 100 %

_Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRange:
    """Scores of one band of one scorer. None: no bound on that side."""

    scorer_id: str
    low: float | None
    high: float | None
    low_included: bool  #: the band's better end is open and its worse end closed; which is low depends on the scale


@dataclass(frozen=True, slots=True)
class Share:
    """One end of a population of scores, e.g. the worst 5 %."""

    percent: float  #: above 0, at most 100
    worst: bool  #: the worst end, not the best


def parse_share(worst: str | None, best: str | None, *, field: str = "`{}`") -> Share | None:
    """Read the share that a user wrote as `worst` or as `best`, e.g. `5%`, `5` or `0.5%`; None where there is neither.

    `field`: how the caller's users write the name of a field, e.g. `--{}`. Raises `InvalidRequest`.
    """
    if worst is not None and best is not None:
        raise InvalidRequest(
            f"{field.format('worst')} and {field.format('best')} cannot be combined",
            hint="ask for one, then for the other",
        )
    text = best if worst is None else worst
    if text is None:
        return None
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 100:
        raise InvalidRequest(f"{text!r} is not a valid share", hint="write for example 5% (above 0 and at most 100)")
    return Share(percent, worst=worst is not None)


class Reference(BaseModel):
    """The distribution of one scorer's scores over a population. Stored in the model card."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    population: Annotated[str, Field(min_length=1)]  #: which images, in words
    n: Annotated[int, Field(ge=2)]  #: images that were scored
    scorer_id: str  #: of their scores: weights, preprocessing, precision, requirement
    command: str  #: makes the reference again
    direction: Direction = Direction.HIGHER
    quantiles: tuple[_Finite, ...]  #: scores at 0, 1, ..., 100 % of the population, ascending

    @field_validator("quantiles")
    @classmethod
    def _ascending(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) != POINTS or any(low > high for low, high in pairwise(values)):
            raise ValueError(f"must be {POINTS} scores in ascending order")
        return values

    @property
    def requirement(self) -> str | None:
        """The requirement of its PromptIQA scorer, `name@version`; None for other scorers."""
        return ScorerId.parse(self.scorer_id).requirement

    def fits(self, scorer_id: str) -> bool:
        """Return whether the reference counts for a scorer: same weights, preprocessing and requirement.

        The arithmetic may differ: it moves a score by far less than one percentile (the cards' precision figures). So
        may the file: the preview in a camera raw file is a photograph as the camera saves it; and the version of the
        preprocessing where it changed no photograph.
        """
        return ScorerId.parse(self.scorer_id).same_population(ScorerId.parse(scorer_id))

    def percentile(self, score: float) -> float:
        """Share of the population (0-100) that is no better than `score`; between quantiles linear, outside clamped."""
        worst_first, oriented = self._worst_first, self._oriented(score)
        index = bisect_right(worst_first, oriented)
        if index in (0, POINTS):
            return 0.0 if index == 0 else 100.0
        low, high = worst_first[index - 1], worst_first[index]
        return index - 1 + (oriented - low) / (high - low)

    def score_at(self, percentile: float) -> float:
        """Score below which (above which, where lower is better) `percentile` (0-100) of the population lies."""
        worst_first = self._worst_first
        low = min(int(percentile), POINTS - 2)
        share = percentile - low
        return self._oriented(worst_first[low] * (1 - share) + worst_first[low + 1] * share)

    def band(self, score: float) -> Band:
        """Return the band of a score. A score exactly at a cut belongs to the better band."""
        return _BANDS[bisect_right(self._cuts, self._oriented(score))]

    def range_of(self, band: Band, scorer_id: str) -> ScoreRange:
        """Return the scores that `band` covers, of a scorer that this reference fits."""
        index = tuple(Band).index(band)
        worse = self.score_at(CUTS[index - 1]) if index else None
        better = self.score_at(CUTS[index]) if index < len(CUTS) else None
        if self.direction is Direction.LOWER:
            return ScoreRange(scorer_id=scorer_id, low=better, high=worse, low_included=False)
        return ScoreRange(scorer_id=scorer_id, low=worse, high=better, low_included=True)

    def among(self, score: float, share: Share) -> bool:
        """Return whether a score is no better than the worst, or no worse than the best, share of the population."""
        if share.worst:
            return self._oriented(score) <= self._oriented(self.score_at(share.percent))
        return self._oriented(score) >= self._oriented(self.score_at(100 - share.percent))

    def _oriented(self, score: float) -> float:
        """Return the score on a scale where higher is better; its own inverse."""
        return -score if self.direction is Direction.LOWER else score

    @cached_property
    def _cuts(self) -> list[float]:
        """The scores at `CUTS`, on a scale where higher is better."""
        return [self._oriented(self.score_at(cut)) for cut in CUTS]

    @cached_property
    def _worst_first(self) -> list[float]:
        """The quantiles on a scale where higher is better. Kept: pages of scores need them several times a row."""
        oriented = [self._oriented(value) for value in self.quantiles]
        return oriented[::-1] if self.direction is Direction.LOWER else oriented


def find_reference(references: Iterable[Reference], scorer_id: str) -> Reference | None:
    """Return the reference that counts for a scorer, if there is one."""
    return next((reference for reference in references if reference.fits(scorer_id)), None)


def read_reference(references: Sequence[Any] | None, scorer_id: str) -> Reference | None:
    """Find the reference of a scorer in the `references` of a stored card; None: the card is older than they are."""
    return find_reference(map(Reference.model_validate, references or ()), scorer_id)

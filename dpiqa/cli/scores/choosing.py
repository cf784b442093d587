"""Choice of a part of the images of `dpiqa score`: a share of them, or a part of the reference population's scale."""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from dpiqa.cli.scores.rows import rank
from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest
from dpiqa.exports.growing import Row
from dpiqa.models.base import ModelCard
from dpiqa.models.choice import ModelChoice
from dpiqa.percentiles import Share, parse_share
from dpiqa.pipeline.scorers import card_of
from dpiqa.profiles import Profile
from dpiqa.settings import Settings


@dataclass(frozen=True, slots=True)
class Choice:
    """The options `--worst`, `--best`, `--below-percentile` and `--above-percentile`; images without a score stay."""

    share: Share | None = None  #: of the images of this run
    below: float | None = None  #: percentile of the reference population
    above: float | None = None

    @classmethod
    def parse(cls, worst: str | None, best: str | None, below: float | None, above: float | None) -> "Choice":
        """Read the options. Raises `InvalidRequest`."""
        share = parse_share(worst, best, field="--{}")
        if sum(value is not None for value in (share, below, above)) > 1:
            raise InvalidRequest(
                "--worst, --best, --below-percentile and --above-percentile cannot be combined", hint="pass only one"
            )
        return cls(share, below, above)

    def __bool__(self) -> bool:
        return self != Choice()

    def check(self, settings: Settings, scored_by: Sequence[Profile | ModelChoice]) -> None:
        """Raise `InvalidRequest` where it cannot be made: before images are scored, not after."""
        if not self:
            return
        if len(scored_by) > 1:
            raise InvalidRequest(
                "--worst, --best and percentiles need one model or profile", hint="sort the exported scores instead"
            )
        if self.share is None:
            _require_references(settings, scored_by[0])

    def among(self, rows: Callable[[], Iterable[Row]]) -> Iterator[Row]:
        """Yield the rows that are chosen, in their order; says on stderr how many. `rows()` yields all, each time."""
        keeps = self._of_images(rows()) if self.share is not None else self._of_population
        n_scored = n_kept = n_without = 0
        for row in rows():
            if row["score"] is None:
                yield row
                continue
            n_scored += 1
            n_without += self.share is None and row["percentile"] is None
            if keeps(row):
                n_kept += 1
                yield row
        console.note(f"{n_kept} of {n_scored} scored images are {self}")
        if n_without:
            console.warn(f"{n_without} images are left out: their scorer has no reference")

    def __str__(self) -> str:
        if self.share is not None:
            return f"the {'worst' if self.share.worst else 'best'} {self.share.percent:g}% of these images"
        if self.below is not None:
            return f"below the {console.ordinal(self.below)} percentile of the reference population"
        return f"above the {console.ordinal(self.above)} percentile of the reference population"

    def _of_images(self, rows: Iterable[Row]) -> Callable[[Row], bool]:
        """Return whether a row is in the share. At least one is; those with the score of the last one are, too."""
        share = self.share or Share(100, worst=True)
        ranks = array("d", sorted(rank(row) for row in rows if row["score"] is not None))
        n = math.ceil(round(len(ranks) * share.percent / 100, 6))
        if not n:
            return lambda _: False
        if share.worst:
            return lambda row: rank(row) <= ranks[n - 1]
        return lambda row: rank(row) >= ranks[-n]

    def _of_population(self, row: Row) -> bool:
        percentile = row["percentile"]
        if percentile is None:
            return False
        return bool(percentile < self.below if self.below is not None else percentile > (self.above or 0))


def _require_references(settings: Settings, by: Profile | ModelChoice) -> None:
    """Raise `InvalidRequest` if a model that may score has no reference."""
    for choice in [by] if isinstance(by, ModelChoice) else by.choices.values():
        card = card_of(choice, settings)
        if not _has_reference(card, choice.requirement):
            raise InvalidRequest(
                f"{choice} has no reference population, so its scores have no percentiles",
                hint=f"`dpiqa models reference {choice.model}` makes one; --worst and --best need none",
            )


def _has_reference(card: ModelCard, requirement: str | None) -> bool:
    """Return whether scores may have a percentile. The newest version of a requirement is not known yet."""
    versions = {
        reference.requirement
        for reference in card.references
        if reference.requirement and reference.requirement.partition("@")[0] == requirement
    }
    return any(
        card.model_copy(update={"requirement": version}).reference is not None for version in versions | {requirement}
    )

"""The worst or best share of a reference population: what `dpiqa score --worst 5%` shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpiqa.cli.support import console
from dpiqa.cli.support.options import parse_percent
from dpiqa.errors import InvalidRequest

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard
    from dpiqa.models.choice import ModelChoice
    from dpiqa.percentiles import Reference
    from dpiqa.pipeline.local_run import ScoredObject
    from dpiqa.profiles import Profile
    from dpiqa.settings import Settings


@dataclass(frozen=True, slots=True)
class Share:
    """One end of a reference population."""

    percent: float  #: above 0, at most 100
    worst: bool

    def of(self, results: "Sequence[ScoredObject]") -> "list[ScoredObject]":
        """Leave what lies in the share, and what has no score; says on stderr what was compared with what."""
        scored = [one for one in results if one.score is not None]
        chosen = [one for one in results if one.score is None or self._has(one.reference, one.score)]
        left = sum(one.score is not None for one in chosen)
        end = "worst" if self.worst else "best"
        populations = sorted(
            {f"{one.reference.n} images, {one.reference.population}" for one in scored if one.reference}
        )
        console.note(
            f"{left} of {len(scored)} scored images are among the {end} {self.percent:g}% "
            f"of the reference population ({'; '.join(populations) or 'there is none'})"
        )
        if unjudged := sum(one.reference is None for one in scored):
            console.warn(f"{unjudged} images are left out: their scorer has no reference")
        return chosen

    def _has(self, reference: "Reference | None", score: float) -> bool:
        if reference is None:
            return False
        judge = reference.among_worst if self.worst else reference.among_best
        return judge(score, self.percent)


def wanted_share(worst: str | None, best: str | None) -> Share | None:
    """Read --worst and --best. Raises `InvalidRequest` for both, or for what is no share."""
    if worst and best:
        raise InvalidRequest("--worst and --best exclude each other", hint="ask for one, then for the other")
    asked = worst or best
    return None if asked is None else Share(parse_percent(asked), worst=worst is not None)


def require_references(settings: "Settings", by: "Profile | ModelChoice") -> None:
    """Raise `InvalidRequest` if a model that may score has no reference: before it scores, not after."""
    from dpiqa.models.cards import find_card
    from dpiqa.models.choice import ModelChoice, chosen_card

    for choice in [by] if isinstance(by, ModelChoice) else by.choices.values():
        card = chosen_card(find_card(choice.model, settings.models_dir), choice)
        if not _has_reference(card, choice.requirement):
            raise InvalidRequest(
                f"{choice} has no reference population, so nothing is known of shares",
                hint=f"`dpiqa models reference {choice.model}` makes one; or sort the scores themselves",
            )


def _has_reference(card: "ModelCard", requirement: str | None) -> bool:
    """Whether scores may have a percentile. Of a requirement without a version, the newest is not known yet."""
    own = {one.requirement for one in card.references}
    asked = {one for one in own if one and one.partition("@")[0] == requirement} | {requirement}
    return any(card.model_copy(update={"requirement": one}).reference is not None for one in asked)

"""What scores mean, by the references in the cards of the scorers that made them."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, func, select

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import Reference, ScoreRange, read_reference
from dpiqa.profiles import Profile
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.tables import scorers
from dpiqa.types import Band


def read_references(c: Connection, scorer_ids: Collection[str]) -> dict[str, Reference]:
    """Return the reference of each of these scorers that has one."""
    found = _read(c, scorers.c.id.in_(scorer_ids)) if scorer_ids else {}
    return {scorer_id: reference for scorer_id, reference in found.items() if reference is not None}


def ranges_of(c: Connection, profile_id: str, bands: Sequence[Band]) -> tuple[tuple[ScoreRange, ...], tuple[str, ...]]:
    """Return the scores that `bands` cover, by scorer of the profile's models, and the scorers without a reference.

    Raises `InvalidRequest` if scorers of the profile have spoken, and none of them has a reference.
    """
    found = _read_of_profile(c, profile_id)
    without = tuple(sorted(scorer_id for scorer_id, reference in found.items() if reference is None))
    if found and len(without) == len(found):
        raise InvalidRequest(
            f"scores under {profile_id} have no bands: {', '.join(without)} has no reference",
            hint=f"`dpiqa models reference {ScorerId.parse(without[0]).model}` makes one, which counts once a worker "
            "with the new card has scored; or choose by score, or by share",
        )
    ranges = [
        reference.range_of(band, scorer_id) for scorer_id, reference in found.items() if reference for band in bands
    ]
    return tuple(ranges), without


def model_of(scorer_id: ColumnElement[str]) -> ColumnElement[str]:
    """Return the SQL of `ScorerId.model`, for a column of scorer ids."""
    return func.split_part(scorer_id, ":", 1)


def _read_of_profile(c: Connection, profile_id: str) -> dict[str, Reference | None]:
    """Return the references of all scorers of the profile's models, whatever weights they had when they spoke."""
    try:
        profile = read_profile(c, profile_id)
    except NotFound:
        return {}  # no job has used it: there are no scores to choose from
    names = {choice.model for choice in profile.choices.values()}
    found = _read(c, model_of(scorers.c.id).in_(names))
    return {scorer_id: reference for scorer_id, reference in found.items() if _speaks_for(profile, scorer_id)}


def _speaks_for(profile: Profile, scorer_id: str) -> bool:
    """Whether one of the profile's choices makes this scorer: of a PromptIQA model, only that by its requirement."""
    scorer = ScorerId.parse(scorer_id)
    choices = ((choice.model, choice.requirement) for choice in profile.choices.values())
    return (scorer.model, scorer.requirement) in choices


def _read(c: Connection, which: ColumnElement[bool]) -> dict[str, Reference | None]:
    query = select(scorers.c.id, scorers.c.card["references"].label("references")).where(which).order_by(scorers.c.id)
    return {row.id: read_reference(row.references, row.id) for row in c.execute(query)}

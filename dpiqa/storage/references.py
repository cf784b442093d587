"""References and bands of stored scores, by the cards of the scorers that made them."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, func, select

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import Reference, ScoreRange, read_reference
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.tables import scorers
from dpiqa.types import Band


def read_references(c: Connection, scorer_ids: Collection[str]) -> dict[str, Reference]:
    """Return the reference of each of these scorers that has one."""
    references = _read(c, scorers.c.id.in_(scorer_ids)) if scorer_ids else {}
    return {scorer_id: reference for scorer_id, reference in references.items() if reference is not None}


def ranges_of(c: Connection, profile_id: str, bands: Sequence[Band]) -> tuple[tuple[ScoreRange, ...], tuple[str, ...]]:
    """Return the scores that `bands` cover, by scorer of the profile's models, and the scorers without a reference.

    Raises `InvalidRequest` if there are scores under the profile and none of their scorers has a reference.
    """
    references = _read_of_profile(c, profile_id)
    without = tuple(sorted(scorer_id for scorer_id, reference in references.items() if reference is None))
    if references and len(without) == len(references):
        raise InvalidRequest(
            f"scores under {profile_id} have no bands: {', '.join(without)} has no reference",
            hint=f"`dpiqa models reference {ScorerId.parse(without[0]).model}` makes one, which counts once a worker "
            "with the new card has scored; or choose by score, or by share",
        )
    ranges = [
        reference.range_of(band, scorer_id)
        for scorer_id, reference in references.items()
        if reference is not None
        for band in bands
    ]
    return tuple(ranges), without


def model_of(scorer_id: ColumnElement[str]) -> ColumnElement[str]:
    """Return the SQL of `ScorerId.model`, for a column of scorer ids."""
    return func.split_part(scorer_id, ":", 1)


def _read_of_profile(c: Connection, profile_id: str) -> dict[str, Reference | None]:
    """Return the references of all scorers of the profile's models, whatever weights they had.

    Of a PromptIQA model these are the scorers of the profile's own requirement.
    """
    try:
        profile = read_profile(c, profile_id)
    except NotFound:
        return {}  # no job has used it: there are no scores to choose from
    choices = {(choice.model, choice.requirement) for choice in profile.choices.values()}
    references = _read(c, model_of(scorers.c.id).in_({model for model, _ in choices}))
    return {
        scorer_id: reference
        for scorer_id, reference in references.items()
        for scorer in [ScorerId.parse(scorer_id)]
        if (scorer.model, scorer.requirement) in choices
    }


def _read(c: Connection, condition: ColumnElement[bool]) -> dict[str, Reference | None]:
    query = select(scorers.c.id, scorers.c.card["references"].label("references")).where(condition)
    return {row.id: read_reference(row.references, row.id) for row in c.execute(query.order_by(scorers.c.id))}

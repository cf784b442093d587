"""Scales, references and bands of stored scores, by the cards of the scorers that made them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, Text, cast, func, literal_column, or_, select

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.percentiles import Reference, ScoreRange, read_reference
from dpiqa.scorer_id import ScorerId
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.tables import scorers
from dpiqa.types import Band

#: Version of a row of `scorers`: changes with its card, because a changed card is a new version of the row.
CARD_VERSION = cast(cast(literal_column("scorers.xmin"), Text), BigInteger).label("card_version")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a scorer's scores."""

    scale: str  #: the range, and which end is better
    reference: Reference | None  #: the distribution that percentiles and bands compare with


#: By scorer id and version of its card. Cards are 19 kB of JSON: reading one takes longer than a page of scores.
_MEANINGS: WeakKeyDictionary[Engine, dict[tuple[str, int], Meaning]] = WeakKeyDictionary()


def read_meanings(c: Connection, scorer_versions: Collection[tuple[str, int]]) -> dict[str, Meaning]:
    """Return the meaning of the scores of these scorers, each with its `CARD_VERSION`. Cards are read once."""
    known = _MEANINGS.setdefault(c.engine, {})
    missing = {scorer_id for scorer_id, version in scorer_versions if (scorer_id, version) not in known}
    if missing:
        card = scorers.c.card
        columns = card["score_scale"].astext.label("scale"), card["references"].label("references")
        rows = c.execute(select(scorers.c.id, CARD_VERSION, *columns).where(scorers.c.id.in_(missing)))
        for row in rows:
            meaning = Meaning(row.scale, read_reference(row.references, row.id))
            for version in {row.card_version, *(v for scorer_id, v in scorer_versions if scorer_id == row.id)}:
                known[row.id, version] = meaning
    return {scorer_id: known[scorer_id, version] for scorer_id, version in scorer_versions}


def read_references(c: Connection, scorer_ids: Collection[str]) -> dict[str, Reference]:
    """Return the reference of each of these scorers that has one."""
    if not scorer_ids:
        return {}
    versions = c.execute(select(scorers.c.id, CARD_VERSION).where(scorers.c.id.in_(scorer_ids)))
    meanings = read_meanings(c, {(row.id, row.card_version) for row in versions})
    references = {scorer_id: meaning.reference for scorer_id, meaning in meanings.items()}
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


def scorers_of_model(c: Connection, model: str) -> list[str]:
    """Return the scorers of a model of this name, or the scorer of this id; empty where none has scored."""
    return list(c.execute(select(scorers.c.id).where(is_model(model)).order_by(scorers.c.id)).scalars())


def is_model(model: str) -> ColumnElement[bool]:
    """Build the condition that a scorer has this id, or that its model has this name."""
    return or_(scorers.c.id == model, model_of(scorers.c.id) == model)


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
    rows = c.execute(select(scorers.c.id, CARD_VERSION).where(condition).order_by(scorers.c.id)).all()
    meanings = read_meanings(c, {(row.id, row.card_version) for row in rows})
    return {row.id: meanings[row.id].reference for row in rows}

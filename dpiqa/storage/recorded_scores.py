"""Recorded scores: what each scorer returned for each image, computed once for the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Text,
    Uuid,
    any_,
    bindparam,
    event,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from dpiqa.imaging.measured import Measures
from dpiqa.storage.columns import array, arrays
from dpiqa.storage.items import Scored
from dpiqa.storage.measures import read_measures
from dpiqa.storage.tables import scorers, scores

if TYPE_CHECKING:
    from dpiqa.models.base import ModelCard

_STORED_SCORERS = "stored scorers"  #: in the info of a connection: references of each scorer id
INSERT_SCORER = insert(scorers).on_conflict_do_nothing()
_REFERENCES = bindparam("references", type_=JSONB)
#: A reference may be made, or made again, after a scorer's first score. The row is locked only where it changes.
UPDATE_REFERENCES = (
    update(scorers)
    .where(scorers.c.id == bindparam("scorer_id"))
    .where(scorers.c.card.op("->")(literal_column("'references'")).is_distinct_from(_REFERENCES))
    .values(card=func.jsonb_set(scorers.c.card, literal_column("'{references}'"), _REFERENCES))
)
# Stores scores of images, and of bytes, that the scorer has not scored yet and returns those that it stored. Raw: each
# row gets values of its own. It waits for a transaction that stores the same bytes: hence the order.
INSERT_SCORES = text(
    """
    INSERT INTO scores (image_id, scorer_id, score, etag, version_id, attempt, job_id, content_hash, copied_from)
    SELECT image_id, :scorer_id, score, etag, version_id, attempt, job_id, content_hash, copied_from
    FROM unnest(:image_id, :score, :etag, :version_id, :attempt, :job_id, :content_hash, :copied_from)
        AS new (image_id, score, etag, version_id, attempt, job_id, content_hash, copied_from)
    ORDER BY content_hash, image_id
    ON CONFLICT DO NOTHING
    RETURNING image_id, score
    """
).bindparams(
    *arrays(
        image_id=BigInteger, score=Double, etag=Text, version_id=Text, attempt=Integer, job_id=Uuid,
        content_hash=LargeBinary, copied_from=BigInteger,
    )
)  # fmt: skip
SCORES_OF_IMAGES = select(scores.c.image_id, scores.c.score).where(
    scores.c.scorer_id == bindparam("of_scorer"), scores.c.image_id == any_(array("ids", BigInteger))
)
#: Computed scores, each by the bytes and the scorer.
SCORES_OF_CONTENTS = select(scores.c.content_hash, scores.c.scorer_id, scores.c.score, scores.c.image_id).where(
    scores.c.content_hash == any_(array("hashes", LargeBinary)),
    scores.c.scorer_id == any_(array("of_scorers", Text)),
    scores.c.copied_from.is_(None),
)


@dataclass(frozen=True, slots=True)
class KnownScore:
    """A computed score of some bytes."""

    score: float
    image_id: int | None = None  #: the image that it was computed for; None: one of those that are in work here
    measures: Measures | None = None  #: of that image


def store_scores(c: Connection, scorer: "ModelCard", scored: Sequence[Scored]) -> dict[int, float]:
    """Store new scores; return the score that counts per image: the first one ever stored for it, or for its bytes.

    Scores of previews and of reduced images are those of scorers of their own.
    """
    scores_by_image: dict[int, float] = {}
    for rendition in dict.fromkeys(outcome.rendition for outcome in scored):
        of_rendition = [outcome for outcome in scored if outcome.rendition is rendition]
        scores_by_image |= _store(c, scorer.rendered(rendition), of_rendition)
    return scores_by_image


def _store(c: Connection, scorer: "ModelCard", scored: Sequence[Scored]) -> dict[int, float]:
    _store_scorer(c, scorer)
    by_image = {outcome.claim.image_id: outcome for outcome in scored}
    scores_by_image = _insert_scores(c, scorer, list(by_image.values()))
    earlier = list(by_image.keys() - scores_by_image)
    if earlier:
        rows = c.execute(SCORES_OF_IMAGES, {"of_scorer": scorer.scorer_id, "ids": earlier})
        scores_by_image |= {row.image_id: row.score for row in rows}
    same_bytes = [outcome for image_id, outcome in by_image.items() if image_id not in scores_by_image]
    if same_bytes:  # scored in the meantime, or above, under another key
        known = find_copies(c, [o.content_hash for o in same_bytes if o.content_hash], [scorer.scorer_id])
        copies = []
        for outcome in same_bytes:
            original = known[outcome.content_hash or b"", scorer.scorer_id]
            copies.append(replace(outcome, score=original.score, copied_from=original.image_id))
        scores_by_image |= _insert_scores(c, scorer, copies)
    return scores_by_image


def _store_scorer(c: Connection, scorer: "ModelCard") -> None:
    """Store the card, unless a transaction of this connection did so and was committed: a card is tens of kilobytes."""
    scorer_id, references = scorer.scorer_id, scorer.references
    stored = c.info.setdefault(_STORED_SCORERS, {})
    if stored.get(scorer_id) is references:
        return
    card = scorer.model_dump(mode="json")
    c.execute(INSERT_SCORER, {"id": scorer_id, "card": card})
    if scorer.reference is not None:
        c.execute(UPDATE_REFERENCES, {"scorer_id": scorer_id, "references": card["references"]})
    event.listen(c, "commit", lambda _: stored.__setitem__(scorer_id, references), once=True)


def _insert_scores(c: Connection, scorer: "ModelCard", scored: Sequence[Scored]) -> dict[int, float]:
    """Store the scores that are new; return them by image."""
    values = {
        "scorer_id": scorer.scorer_id,
        "image_id": [outcome.claim.image_id for outcome in scored],
        "score": [float(outcome.score) for outcome in scored],
        "etag": [outcome.etag for outcome in scored],
        "version_id": [outcome.version_id for outcome in scored],
        "attempt": [outcome.claim.fence for outcome in scored],
        "job_id": [outcome.claim.job_id for outcome in scored],
        "content_hash": [outcome.content_hash for outcome in scored],
        "copied_from": [outcome.copied_from for outcome in scored],
    }
    return {row.image_id: row.score for row in c.execute(INSERT_SCORES, values)}


def find_copies(
    c: Connection, content_hashes: Sequence[bytes], scorer_ids: Sequence[str]
) -> dict[tuple[bytes, str], KnownScore]:
    """Return the computed scores of these bytes, by SHA-256 and scorer id, with their images' measures."""
    rows = c.execute(SCORES_OF_CONTENTS, {"hashes": list(content_hashes), "of_scorers": list(scorer_ids)}).all()
    measured = read_measures(c, [row.image_id for row in rows])
    return {
        (bytes(row.content_hash), row.scorer_id): KnownScore(row.score, row.image_id, measured.get(row.image_id))
        for row in rows
    }

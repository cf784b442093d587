"""Everything known about one object."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from dpiqa.errors import NotFound
from dpiqa.meaning import Reference, read_reference
from dpiqa.storage.score_pages import ScoreRow, to_score_rows
from dpiqa.types import Band

_IMAGES = text(
    "SELECT * FROM images WHERE bucket = :bucket AND key = :key ORDER BY current DESC, news_at DESC, id DESC"
)
_SCORES = text(
    """
    SELECT i.etag, i.current, i.last_modified, s.score, s.scorer_id, s.version_id, s.scored_at, s.attempt, s.job_id,
        w.card
    FROM images i JOIN scores s ON s.image_id = i.id JOIN scorers w ON w.id = s.scorer_id
    WHERE i.bucket = :bucket AND i.key = :key ORDER BY i.current DESC, s.scored_at DESC, s.scorer_id
    """
)
_RESULTS = text(
    """
    SELECT r.*, w.card ->> 'score_scale' AS scale FROM results r JOIN scorers w ON w.id = r.scorer_id
    WHERE r.bucket = :bucket AND r.key = :key ORDER BY r.current DESC, r.updated_at DESC, r.profile
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScore:
    """One model's number for one version of the object, and where it comes from."""

    score: float  #: on `scale`
    scorer_id: str
    etag: str  #: of the bytes that were scored
    version_id: str | None
    current: bool  #: whether these bytes are, as far as is known, what the store holds
    last_modified: datetime | None
    scored_at: datetime
    attempt: int  #: the fence under which it was recorded
    job_id: UUID
    card: dict[str, Any]  #: the model card as it was when the scorer first spoke; with its latest references

    @property
    def scale(self) -> str:
        """What the scorer's scores mean: range, and which end is better."""
        return str(self.card["score_scale"])

    @property
    def percentile(self) -> float | None:
        """Share (0-100) of the scorer's reference population that is no better; None where it has none."""
        return None if (reference := self._reference) is None else reference.percentile(self.score)

    @property
    def band(self) -> Band | None:
        """The score in a plain word, by that population."""
        return None if (reference := self._reference) is None else reference.band(self.score)

    @property
    def _reference(self) -> Reference | None:
        return read_reference(self.card.get("references"), self.scorer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Everything known about one object, the current version first."""

    bucket: str
    key: str
    deleted: bool  #: no version is current
    scores: list[StoredScore]
    results: list[ScoreRow]  #: what counts, by profile


def lookup(c: Connection, bucket: str, key: str) -> Lookup:
    """Return every score of one object with its provenance. Raises `NotFound` for an object never heard of."""
    where = {"bucket": bucket, "key": key}
    versions = c.execute(_IMAGES, where).all()
    if not versions:
        raise NotFound(f"s3://{bucket}/{key} is not known", cure="submit it, or check the spelling of the key")
    return Lookup(
        bucket=bucket,
        key=key,
        deleted=not versions[0].current,
        scores=[StoredScore(**row._mapping) for row in c.execute(_SCORES, where)],
        results=to_score_rows(c, c.execute(_RESULTS, where)),
    )

"""Labels: what people decided about images, to choose a cut-off by. They belong to a version of an image, and to a set.

A set holds one verdict for each image: the last one. People who label the same images independently use a set each.
Figures are about current versions; labels of replaced versions stay.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import Connection, Row, Select, delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from dpiqa.access import EVERYTHING, Grants, current_actor
from dpiqa.addresses import object_address
from dpiqa.errors import NotFound
from dpiqa.storage.audit import audited
from dpiqa.storage.label_tables import labels
from dpiqa.storage.pages import Page, check_limit, decode, encode
from dpiqa.storage.score_filter import ScoreFilter, begins_with, equalities, in_job, score_bounds
from dpiqa.storage.tables import images, results
from dpiqa.thresholds import LabelledScore
from dpiqa.types import AuditAction, Verdict

SET_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"  #: of names of label sets
MAX_LABELS = 20_000  #: of one set that figures read: the newest

_UPSERT = insert(labels)
SAVE_LABELS = _UPSERT.on_conflict_do_update(
    index_elements=["label_set", "image_id"],
    set_={name: _UPSERT.excluded[name] for name in ("verdict", "draw", "labelled_by", "labelled_at")},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The images from which one was drawn at random, each equally likely. None: not limited by this."""

    profile: str
    bucket: str | None = None
    prefix: str | None = None
    job: str | None = None
    min: float | None = None  #: score under the profile
    max: float | None = None

    @classmethod
    def of(cls, conditions: ScoreFilter) -> Self:
        """Return the draw from what conditions with a profile choose."""
        return cls(
            profile=conditions.profile or "",
            bucket=conditions.bucket,
            prefix=conditions.prefix or None,
            job=None if conditions.job is None else str(conditions.job),
            min=conditions.min,
            max=conditions.max,
        )

    def covers(self, view: "Draw") -> bool:
        """Return whether what was drawn from this, and lies in a view, is a random sample of the view."""
        if self.job != view.job or self.bucket not in (None, view.bucket):
            return False
        if not (view.prefix or "").startswith(self.prefix or ""):
            return False
        if (self.min, self.max) != (None, None) and self.profile != view.profile:
            return False
        lower = self.min is None or (view.min is not None and view.min >= self.min)
        return lower and (self.max is None or (view.max is not None and view.max <= self.max))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLabel:
    """A verdict about an image. None: remove its label."""

    bucket: str
    key: str
    etag: str | None = None  #: of the version that was looked at; None: the current one
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label of a version of an image."""

    label_set: str
    image_id: int
    bucket: str
    key: str
    etag: str
    current: bool  #: whether the store, as far as is known, still holds these bytes
    verdict: Verdict
    draw: Draw | None  #: what it was drawn from at random; None: it was chosen
    labelled_by: str
    labelled_at: datetime

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        """Read a row of `_LABELS`."""
        values = dict(row._mapping)
        return cls(**{**values, "draw": None if row.draw is None else Draw(**row.draw)})


_OF_IMAGE = (images.c.bucket, images.c.key, images.c.etag, images.c.current)
_LABELS = select(labels, *_OF_IMAGE).join_from(labels, images, images.c.id == labels.c.image_id)


def save_labels(
    c: Connection, label_set: str, new: Sequence[NewLabel], *, draw: Draw | None = None, grants: Grants = EVERYTHING
) -> int:
    """Store verdicts in a set and remove those that are None; return how many labels the set now has of these images.

    Raises `NotFound`, and stores none, if one of the images is not known or beyond the grants.
    """
    for label in new:
        grants.require(label.bucket, label.key)
    ids = _image_ids(c, new)
    actor = current_actor()
    by_id = {image_id: label.verdict for image_id, label in zip(ids, new, strict=True)}
    values = [
        {
            "label_set": label_set,
            "image_id": image_id,
            "verdict": verdict,
            "draw": None if draw is None else asdict(draw),
            "labelled_by": "local" if actor is None else actor.name,
        }
        for image_id, verdict in sorted(by_id.items())
        if verdict is not None
    ]
    removed = [image_id for image_id, verdict in by_id.items() if verdict is None]
    if values:
        c.execute(SAVE_LABELS, values)
    if removed:
        c.execute(delete(labels).where(labels.c.label_set == label_set, labels.c.image_id.in_(removed)))
    first = object_address(new[0].bucket, new[0].key)
    audited(c, AuditAction.LABEL, label_set, first=first, saved=len(values), removed=len(removed))
    return len(values)


def _image_ids(c: Connection, new: Sequence[NewLabel]) -> list[int]:
    """Return the ids of the versions that labels are about."""
    pairs = {(label.bucket, label.key) for label in new}
    query = select(images.c.id, *_OF_IMAGE).where(tuple_(images.c.bucket, images.c.key).in_(pairs))
    by_version: dict[tuple[str, str, str | None], int] = {}
    for row in c.execute(query):
        by_version[row.bucket, row.key, row.etag] = row.id
        if row.current:
            by_version[row.bucket, row.key, None] = row.id
    for label in new:
        if (label.bucket, label.key, label.etag) not in by_version:
            version = "" if label.etag is None else f", version {label.etag},"
            raise NotFound(
                f"{object_address(label.bucket, label.key)}{version} is not known", hint="label images that were scored"
            )
    return [by_version[label.bucket, label.key, label.etag] for label in new]


def labels_of(
    label_set: str, bucket: str | None = None, prefix: str | None = None, grants: Grants = EVERYTHING
) -> Select[Any]:
    """Return the query for the labels of a set, or of its images in a bucket and under a prefix. Raises as `narrow`."""
    bucket, prefix = grants.narrow(bucket, prefix)
    query = _LABELS.where(labels.c.label_set == label_set)
    if bucket is not None:
        query = query.where(images.c.bucket == bucket)
    return query.where(begins_with(images.c, prefix)) if prefix else query


def list_labels(
    c: Connection,
    label_set: str,
    *,
    bucket: str | None = None,
    prefix: str | None = None,
    grants: Grants = EVERYTHING,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Label]:
    """Return a page of the labels of a set, in the order of their images.

    Raises `InvalidRequest` for a cursor of another query or a limit outside 1-1000, and as `Grants.narrow`.
    """
    query = labels_of(label_set, bucket, prefix, grants).order_by(labels.c.image_id).limit(check_limit(limit) + 1)
    asked = ("labels", label_set, bucket, prefix)
    if cursor is not None:
        query = query.where(labels.c.image_id > decode(asked, cursor, [int])[0])
    rows = [Label.from_row(row) for row in c.execute(query)]
    return Page.cut(rows, limit, lambda row: encode(asked, [row.image_id]))


@dataclass(frozen=True, slots=True)
class LabelsOfView:
    """The labels of the images that a view shows, with their scores."""

    all: list[LabelledScore]
    random: list[LabelledScore]  #: of those, the ones that are a random sample of the view


def read_labels(c: Connection, label_set: str, conditions: ScoreFilter) -> LabelsOfView:
    """Return the labels of a set on the images that conditions with a profile choose; at most `MAX_LABELS`."""
    r = results.c
    chosen = [*equalities(r, conditions), *score_bounds(r, conditions)]
    if conditions.prefix:
        chosen.append(begins_with(r, conditions.prefix))
    if conditions.job is not None:
        chosen.append(in_job(r, conditions.job))
    query = (
        select(r.score, labels.c.verdict, labels.c.draw)
        .join_from(labels, results, r.image_id == labels.c.image_id)
        .where(labels.c.label_set == label_set, *chosen)
        .order_by(labels.c.labelled_at.desc())
        .limit(MAX_LABELS)
    )
    view = Draw.of(conditions)
    found = LabelsOfView([], [])
    for row in c.execute(query):
        label = LabelledScore(row.score, row.verdict is Verdict.REJECT)
        found.all.append(label)
        if row.draw is not None and Draw(**row.draw).covers(view):
            found.random.append(label)
    return found


def read_verdicts(c: Connection, label_set: str, image_ids: Sequence[int]) -> dict[int, Verdict]:
    """Return the verdicts of a set about some images, by image."""
    of_images = labels.c.label_set == label_set, labels.c.image_id.in_(image_ids)
    rows = c.execute(select(labels.c.image_id, labels.c.verdict).where(*of_images))
    return {row.image_id: row.verdict for row in rows}

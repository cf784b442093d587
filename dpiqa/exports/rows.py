"""Rows of exports, read page by page: each page in a short transaction of its own, after the last row before it.

An export of hours therefore holds no snapshot, which would keep vacuum from removing dead rows, and no connection while
its reader is slow. It is not a snapshot either: docs/exports.md says what it contains.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Double,
    Engine,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
)

from dpiqa.addresses import object_address
from dpiqa.exports.ranks import Ranks
from dpiqa.exports.schemas import DIFFERENCES, FAILURES, ITEMS, LABELS, SCORES, Columns, Schema
from dpiqa.imaging.measured import MEASURE_NAMES
from dpiqa.retries import retry_transaction
from dpiqa.storage.audit import audited
from dpiqa.storage.engine import allow_seconds, transaction
from dpiqa.storage.examples import IS_UNSCORED
from dpiqa.storage.label_tables import labels
from dpiqa.storage.labels import labels_of
from dpiqa.storage.measures import MEASURES_OF_IMAGES
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.score_query import ResolvedQuery
from dpiqa.storage.score_walks import page_of_results, sort_columns
from dpiqa.storage.tables import images, items, jobs, results
from dpiqa.storage.watch_tables import differences, reconciliations
from dpiqa.types import REASONS_OF, AuditAction, ItemState, Reason, Verdict

PAGE_ROWS = 20_000
PAGE_SECONDS = 60  #: Postgres cancels the query of a page that takes longer
#: Columns that are computed from others, not selected.
_RANKED = {"scale", "percentile", "band"}
_NOT_SELECTED = _RANKED | set(MEASURE_NAMES)

#: The profile of an item, named by the item or by its job.
_PROFILE = func.coalesce(func.nullif(items.c.profile, ""), jobs.c.profile)

ReadPage = Callable[[Connection, int, "Sequence[Any] | None"], Sequence[tuple[Any, ...]]]
"""`read(connection, rows, after)` reads a page of rows; `after`: the sort columns of the last row before it."""


def note_export(engine: Engine, schema: Schema, conditions: ScoreFilter, **detail: Any) -> None:
    """Write into the audit that scores are exported: which, by their conditions."""
    names = ("prefix", "profile", "job", "model", "min", "max", "since", "until")
    values = {name: getattr(conditions, name) for name in names}
    chosen = {name: value if isinstance(value, float) else str(value) for name, value in values.items() if value}
    subject = "all buckets" if conditions.bucket is None else object_address(conditions.bucket, "")
    with transaction(engine) as c:
        audited(c, AuditAction.EXPORT, subject, schema=schema.id, **chosen, **detail)


def score_batches(
    engine: Engine, query: ResolvedQuery, limit: int | None = None, *, schema: Schema = SCORES
) -> Iterator[Columns]:
    """Yield the scores that a query selects, in its order: all, or the first `limit`. Batches of `SCORES`.

    `schema`: that, or the same with details.

    Raises `DatabaseUnavailable`: at once for the first page, after some tries for a later one.
    """
    sorted_by = sort_columns(query.conditions, query.order)
    selected = _selected(schema.names, {column.name: column for column in results.c} | {"model": results.c.scorer_id})
    positions = [column.label(f"position_{i}") for i, column in enumerate(sorted_by)]

    def read(c: Connection, rows: int, after: Sequence[Any] | None) -> Sequence[tuple[Any, ...]]:
        page = page_of_results(query.conditions, query.order, [*selected, *positions], after=after, limit=rows)
        return _tuples(c, page)

    return _batches(engine, read, schema.names, [column.name for column in sorted_by], limit)


def named_score_batches(engine: Engine, profile: str, addresses: Sequence[tuple[str, str]]) -> Iterator[Columns]:
    """Yield the scores that count of some objects, each (bucket, key), under a profile: batches of the schema `scores`.

    By bucket and key; an object without one has no row. Raises as `score_batches`.
    """
    query = select(
        *_selected(SCORES.names, {column.name: column for column in results.c} | {"model": results.c.scorer_id})
    )
    query = query.where(results.c.profile == profile, results.c.current)
    query = query.where(tuple_(results.c.bucket, results.c.key).in_(addresses))
    sorted_by = [results.c.bucket, results.c.key]
    return _batches(engine, _reader(query, sorted_by), SCORES.names, [column.name for column in sorted_by], None)


def item_batches(
    engine: Engine,
    job_id: UUID,
    schema: Schema = ITEMS,
    *,
    state: ItemState | None = None,
    reason: Reason | None = None,
    limit: int | None = None,
) -> Iterator[Columns]:
    """Yield items of a job in batches of the schema: `ITEMS`, with details or without, or `FAILURES`.

    Failures are those that ended unscored. Items come in the order of their images, failures by state and image.
    `state`, `reason`: only items that have this. Raises as `score_batches`. A job that does not exist has no items.
    """
    columns = {column.name: column for column in results.c} | _item_columns() | {"model": results.c.scorer_id}
    query = _of_job(job_id, _selected(schema.names, columns))
    if schema is not FAILURES:
        own = and_(results.c.image_id == items.c.image_id, results.c.profile == _PROFILE)
        query = query.outerjoin_from(items, results, own)
    if state is not None:
        query = query.where(items.c.state == state)
    if reason is not None:
        query = query.where(items.c.reason == reason)
    if schema is FAILURES or state in REASONS_OF:
        query = query.where(IS_UNSCORED)
    sorted_by = [items.c.image_id, items.c.profile]
    if schema is FAILURES:
        sorted_by.insert(0, items.c.state)
    return _batches(engine, _reader(query, sorted_by), schema.names, [column.name for column in sorted_by], limit)


def difference_batches(engine: Engine, reconciliation_id: UUID, *, limit: int | None = None) -> Iterator[Columns]:
    """Yield the differences of a reconciliation, by kind and key: batches of `DIFFERENCES`. Raises as `score_batches`.

    They are kept until the next reconciliation of the same bucket and prefix.
    """
    columns = {column.name: column for column in differences.c} | {"bucket": reconciliations.c.bucket}
    query = (
        select(*_selected(DIFFERENCES.names, columns))
        .join_from(differences, reconciliations, reconciliations.c.id == differences.c.reconciliation_id)
        .where(differences.c.reconciliation_id == reconciliation_id)
    )
    sorted_by = [differences.c.kind, differences.c.key]
    return _batches(engine, _reader(query, sorted_by), DIFFERENCES.names, [column.name for column in sorted_by], limit)


def label_batches(
    engine: Engine, label_set: str, bucket: str | None = None, prefix: str | None = None
) -> Iterator[Columns]:
    """Yield the labels of a set, in the order of their images: batches of `LABELS`. Raises as `score_batches`."""
    computed = {
        "mos": case((labels.c.verdict == Verdict.ACCEPT, 1.0), else_=0.0).cast(Double),
        "random": labels.c.draw.is_not(None),
    }
    columns = {column.name: column for column in (*labels.c, images.c.bucket, images.c.key, images.c.etag)} | computed
    query = labels_of(label_set, bucket, prefix).with_only_columns(*_selected(LABELS.names, columns))
    return _batches(engine, _reader(query, [labels.c.image_id]), LABELS.names, ["image_id"], None)


def _item_columns() -> dict[str, Any]:
    own = {column.name: column for column in items.c}
    of_image = {name: images.c[name] for name in ("bucket", "key", "etag", "size")}
    return own | of_image | {"profile": _PROFILE}


def _of_job(job_id: UUID, columns: Sequence[Any]) -> Select[Any]:
    return (
        select(*columns)
        .select_from(items)
        .join(images, images.c.id == items.c.image_id)
        .join(jobs, jobs.c.id == items.c.job_id)
        .where(items.c.job_id == job_id)
    )


def _selected(names: Sequence[str], columns: dict[str, Any]) -> list[Any]:
    """Return these columns as plain values: enums and ids as text, which is faster than objects that are written."""
    selected = []
    for name in names:
        if name not in _NOT_SELECTED:
            column = columns[name]
            plain = cast(column, Text) if name == "job_id" else column
            kind: Any = Text if hasattr(column.type, "enums") or name == "job_id" else column.type
            selected.append(type_coerce(plain, kind).label(name))
    return selected


def _reader(query: Select[Any], sorted_by: Sequence[Any]) -> ReadPage:
    labels = [type_coerce(column, Text if column.name in ("state", "kind") else column.type) for column in sorted_by]
    query = query.add_columns(*(label.label(f"position_{i}") for i, label in enumerate(labels)))

    def read(c: Connection, rows: int, after: Sequence[Any] | None) -> Sequence[tuple[Any, ...]]:
        page = query.order_by(*sorted_by).limit(rows)
        if after is not None:
            last = tuple_(*(literal(value, column.type) for value, column in zip(after, labels, strict=True)))
            page = page.where(tuple_(*sorted_by) > last)
        return _tuples(c, page)

    return read


def _tuples(c: Connection, query: Select[Any]) -> Sequence[tuple[Any, ...]]:
    """Return the rows as the driver's tuples: SQLAlchemy's rows take as long again to make as the rows to arrive."""
    cursor = c.execute(query).cursor
    return cursor.fetchall() if cursor is not None else []


def _measures(c: Connection, image_ids: Sequence[int]) -> dict[str, Sequence[Any]]:
    """Return the measures of images as columns, None for images without."""
    found = {row[0]: row[1:] for row in _tuples(c, MEASURES_OF_IMAGES.params(ids=image_ids))}
    rows = (found.get(image_id, (None,) * len(MEASURE_NAMES)) for image_id in image_ids)
    return dict(zip(MEASURE_NAMES, zip(*rows, strict=True), strict=True))


def _batches(
    engine: Engine, read: ReadPage, names: Sequence[str], sorted_by: Sequence[str], limit: int | None
) -> Iterator[Columns]:
    """Yield pages as columns, with the scales, percentiles and bands of their scores where the schema has them.

    So with the measures of their images. `sorted_by`: names of the sort columns, which rows end in. The next page is
    read while the reader of this one works: Postgres and the encoder use a core each.
    """
    ranks, ranked, measured = Ranks(), "scale" in names, set(MEASURE_NAMES) <= set(names)
    selected = [name for name in names if name not in _NOT_SELECTED]

    def page(n: int, after: Sequence[Any] | None) -> tuple[Columns, Sequence[Any]]:
        with transaction(engine) as c:
            allow_seconds(c, PAGE_SECONDS)
            rows = read(c, n, after)
            if not rows:
                return [], ()
            columns: dict[str, Sequence[Any]] = dict(zip(selected, zip(*rows, strict=True), strict=False))
            if ranked:
                of_page = ranks.rank(c, columns["model"], columns["score"])
                columns |= {"scale": of_page.scales, "percentile": of_page.percentiles, "band": of_page.bands}
            if measured:
                position = len(selected) + sorted_by.index("image_id")
                columns |= _measures(c, [row[position] for row in rows])
        return [columns[name] for name in names], rows[-1][-len(sorted_by) :]

    def read_page(after: Sequence[Any] | None, remaining: int | None) -> tuple[Columns, Sequence[Any]]:
        n = PAGE_ROWS if remaining is None else min(remaining, PAGE_ROWS)
        return retry_transaction(partial(page, n, after), attempts=1 if after is None else 5)

    remaining = limit
    thread = ThreadPoolExecutor(1, thread_name_prefix="export")
    try:
        pending = thread.submit(read_page, None, remaining)
        while True:
            columns, after = pending.result()
            if not columns:
                return
            n_rows = len(columns[0])
            remaining = None if remaining is None else remaining - n_rows
            is_last = n_rows < PAGE_ROWS or remaining == 0
            if not is_last:
                pending = thread.submit(read_page, after, remaining)
            yield columns
            if is_last:
                return
    finally:
        thread.shutdown(wait=False)  # who leaves an export does not wait for the page that is being read

"""Updates of items: ended, or waiting again."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Connection, text

from dpiqa.doorbell import Queue
from dpiqa.storage.images import HeldImage
from dpiqa.storage.outcomes import Changed, Failed, Gone, Outcome, Postponed, Rejected
from dpiqa.text import storable
from dpiqa.types import ItemState, Reason, Route, Stage

_WRITE = text(
    """
    UPDATE items i SET
        state = g.end_state, reason = g.end_reason, detail = left(g.detail, 500),
        stage = coalesce(g.stage, i.stage), queue = coalesce(g.queue, i.queue), route = coalesce(g.route, i.route),
        errors = CASE WHEN g.stage <> i.stage THEN 0 ELSE i.errors + g.errors END,
        crashes = CASE WHEN g.stage <> i.stage THEN 0 ELSE i.crashes END,
        lease_until = NULL, rung_at = NULL, not_before = clock_timestamp() + make_interval(secs => g.delay_seconds),
        finished_at = CASE WHEN g.end_state <> 'queued' THEN clock_timestamp() END
    FROM (
        SELECT o.*,
            CASE WHEN o.errors > 0 AND h.errors + o.errors >= :max_errors THEN 'dead' ELSE o.state END AS end_state,
            CASE WHEN o.errors > 0 AND h.errors + o.errors >= :max_errors THEN 'repeated_errors' ELSE o.reason END
            AS end_reason
        FROM unnest(
            CAST(:item_id AS bigint[]), CAST(:state AS text[]), CAST(:stage AS text[]), CAST(:queue AS text[]),
            CAST(:reason AS text[]), CAST(:detail AS text[]), CAST(:route AS text[]), CAST(:errors AS integer[]),
            CAST(:delay_seconds AS double precision[]))
            AS o (item_id, state, stage, queue, reason, detail, route, errors, delay_seconds)
        JOIN items h ON h.id = o.item_id) AS g
    WHERE i.id = g.item_id
    RETURNING i.id, i.state
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What an item becomes. `None` leaves stage, queue and route as they are."""

    item_id: int
    state: ItemState
    stage: Stage | None = None
    queue: Queue | None = None
    reason: Reason | None = None
    detail: str | None = None
    route: Route | None = None
    errors: int = 0  #: to be added; too many of them end the item as dead
    delay_seconds: float = 0.0  #: before it may be claimed again


def ending(outcome: Outcome, image: HeldImage) -> Ending:
    """Decide what becomes of an item that was not scored."""
    item_id = outcome.claim.item_id
    match outcome:
        case Rejected(_, reason, detail):
            return Ending(item_id=item_id, state=ItemState.REJECTED, reason=reason, detail=detail or None)
        case Changed():
            return Ending(item_id=item_id, state=ItemState.SUPERSEDED, reason=Reason.NEWER_VERSION)
        case Gone(claim) if image.is_still(claim) or not image.current:
            return Ending(item_id=item_id, state=ItemState.DELETED, reason=Reason.OBJECT_DELETED)
        case Postponed(_, delay, detail):
            return Ending(item_id=item_id, state=ItemState.QUEUED, detail=detail or None, delay_seconds=float(delay))
        case Failed(_, detail, delay):
            return Ending(item_id=item_id, state=ItemState.QUEUED, detail=detail, errors=1, delay_seconds=float(delay))
    return Ending(item_id=item_id, state=ItemState.QUEUED)  # released, or gone and written again since


def write_endings(c: Connection, endings: Sequence[Ending], *, max_errors: int) -> list[int]:
    """Write what held items become; return those that ended rejected or dead."""
    if not endings:
        return []
    columns = {field.name: [getattr(end, field.name) for end in endings] for field in fields(Ending)}
    columns["detail"] = [storable(end.detail) for end in endings]
    rows = c.execute(_WRITE, {**columns, "max_errors": max_errors})
    return [row.id for row in rows if row.state in (ItemState.REJECTED, ItemState.DEAD)]

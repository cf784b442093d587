"""Claims: leases of items with a fence. A lease that ran out counts as one crash.

After its first crash an item is claimed alone, so that a crash is attributed to it and harms no other item. Before the
crash that would end it, its worker holds no other item that has crashed one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Integer,
    Text,
    any_,
    bindparam,
    exists,
    literal_column,
    select,
    text,
    update,
)

from dpiqa.storage.columns import NOW, array, arrays, constant
from dpiqa.storage.engine import Lock, lock_names
from dpiqa.storage.items import Claim
from dpiqa.storage.results import settle_results
from dpiqa.storage.tables import items, scores
from dpiqa.storage.version_rows import read_ref
from dpiqa.types import ItemState, Stage

# Counts a crash for each lease that ran out, ends items with too many, and returns ids and states. Raw: a CTE locks
# the rows in id order and skips those that another transaction is about to write.
EXPIRE_LEASES = text(
    """
    WITH late AS (
        SELECT id FROM items
        WHERE state = 'leased' AND lease_until < clock_timestamp() AND (:ids IS NULL OR id = ANY (:ids))
        ORDER BY id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE items i SET
        crashes = i.crashes + 1, lease_until = NULL, rung_at = NULL, not_before = clock_timestamp(),
        state = CASE WHEN i.crashes + 1 >= :max_crashes THEN 'dead' ELSE 'queued' END,
        reason = CASE WHEN i.crashes + 1 >= :max_crashes THEN 'worker_crashes' END,
        detail = 'the lease of ' || coalesce(i.owner, 'a worker') || ' ran out',
        finished_at = CASE WHEN i.crashes + 1 >= :max_crashes THEN clock_timestamp() END
    FROM late WHERE i.id = late.id
    RETURNING i.id, i.state
    """
).bindparams(*arrays(ids=BigInteger))
# Leases the free items among some ids and returns each with its image and earlier scores, in id order. Raw: locking,
# leasing and reading in one statement saves a round trip per chunk, and rows are locked in id order. The state is read
# after the items are found by id: with old statistics Postgres would read all queued items to find these.
CLAIM_ITEMS = text(
    """
    WITH named AS (
        SELECT i.id, i.job_id, i.profile, i.state FROM items i
        WHERE i.id = ANY (:ids) AND i.stage = :stage AND i.not_before <= clock_timestamp()
        AND (i.crashes = 0 OR :alone) AND (i.crashes < :last_chance OR :only_suspect)
        ORDER BY i.id FOR NO KEY UPDATE SKIP LOCKED),
    free AS (
        SELECT n.id, coalesce(nullif(n.profile, ''), j.profile) AS profile, j.details
        FROM named n JOIN jobs j ON j.id = n.job_id
        WHERE n.state = 'queued' AND j.state IN ('listing', 'running', 'watching')),
    taken AS (
        UPDATE items i SET state = 'leased', attempt = i.attempt + 1, owner = :owner,
            lease_until = clock_timestamp() + make_interval(secs => :seconds)
        FROM free WHERE i.id = free.id
        RETURNING i.id, i.job_id, i.image_id, i.attempt, i.crashes, i.queue, free.profile, free.details)
    SELECT t.id AS item_id, t.job_id, t.image_id, t.attempt, t.crashes, t.queue, t.profile,
        m.bucket, m.key, m.etag, m.version_id, m.size, m.last_modified, m.sequencer, m.access_news,
        s.score AS known_score, r.student_score, t.details AND d.image_id IS NULL AS wants_measures
    FROM taken t JOIN images m ON m.id = t.image_id
    LEFT JOIN unnest(:profiles, :scorers) AS w (profile, scorer_id) ON w.profile = t.profile
    LEFT JOIN scores s ON s.image_id = t.image_id AND s.scorer_id = w.scorer_id
    LEFT JOIN results r ON r.image_id = t.image_id AND r.profile = t.profile
    LEFT JOIN measures d ON t.details AND d.image_id = t.image_id
    ORDER BY t.id
    """
).bindparams(
    bindparam("alone", type_=Boolean),
    bindparam("only_suspect", type_=Boolean),
    *arrays(ids=BigInteger, profiles=Text, scorers=Text),
)
SCORES_BY_SCORER = select(scores.c.image_id, scores.c.scorer_id, scores.c.score).where(
    scores.c.image_id == any_(array("images", BigInteger)), scores.c.scorer_id == any_(array("of_scorers", Text))
)
OWNER_HOLDS_SUSPECT = select(
    exists().where(
        items.c.owner == bindparam("of_owner"),
        items.c.state == constant(ItemState.LEASED),
        items.c.crashes > literal_column("0"),  # as in the index `items_suspect`
        items.c.lease_until >= NOW,
    )
)
_REFUSED = items.alias()
#: Refused suspects are rung again at the next feed, not after `rering_seconds`.
CLEAR_RINGS_OF_SUSPECTS = (
    update(items)
    .where(
        items.c.id.in_(
            select(_REFUSED.c.id)
            .where(_REFUSED.c.id == any_(array("ids", BigInteger)))
            .where(_REFUSED.c.state == constant(ItemState.QUEUED), _REFUSED.c.crashes > 0)
            .where(_REFUSED.c.rung_at.is_not(None))
            .order_by(_REFUSED.c.id)
            .with_for_update(key_share=True, skip_locked=True)
        )
    )
    .values(rung_at=None)
)
# Extends the leases that are still held and returns the ids of their items. Raw: pairs of id and fence come as two
# arrays, and rows are locked in id order.
RENEW_LEASES = text(
    """
    WITH locked AS (
        SELECT i.id, i.state FROM items i
        JOIN unnest(:ids, :fences) AS lease (id, fence) ON i.id = lease.id AND i.attempt = lease.fence
        ORDER BY i.id FOR NO KEY UPDATE OF i)
    UPDATE items SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
    FROM locked WHERE items.id = locked.id AND locked.state = 'leased' RETURNING items.id
    """
).bindparams(*arrays(ids=BigInteger, fences=Integer))


def claim(
    c: Connection,
    item_ids: Sequence[int],
    *,
    stage: Stage,
    owner: str,
    lease_seconds: float,
    max_crashes: int = 3,
    scorer_ids: Mapping[str, str],
    on_expired: Callable[[int], None] = lambda _: None,
) -> list[Claim]:
    """Lease the items, among these, that wait for this stage and that no worker holds; return them in id order.

    Items of a job that is paused or has ended are not claimed.

    `scorer_ids` (by profile id) fill in `known_score`; items of other profiles are claimed without one. Items that
    crashed a worker are claimed only when they are the only id named. `on_expired` is told how many of their leases
    ran out.
    """
    ids = sorted(set(item_ids))
    on_expired(expire(c, ids, max_crashes=max_crashes))
    alone = len(ids) == 1
    if alone:
        lock_names(c, Lock.SUSPECT, [owner])
    only_suspect = alone and not c.execute(OWNER_HOLDS_SUSPECT, {"of_owner": owner}).scalar_one()
    values = {
        "ids": ids,
        "stage": stage,
        "owner": owner,
        "seconds": lease_seconds,
        "alone": alone,
        "last_chance": max_crashes - 1,
        "only_suspect": only_suspect,
        "profiles": list(scorer_ids),
        "scorers": list(scorer_ids.values()),
    }
    claims = [Claim.from_row(row, stage, read_ref(row)) for row in c.execute(CLAIM_ITEMS, values)]
    refused = set(ids) - {claim.item_id for claim in claims}
    if refused:
        c.execute(CLEAR_RINGS_OF_SUSPECTS, {"ids": sorted(refused)})
    return claims


def with_known_scores(c: Connection, claims: Sequence[Claim], scorer_ids: Mapping[str, str]) -> list[Claim]:
    """Fill in `known_score` of claims of profiles that `claim` was not told of. `scorer_ids`: by profile id."""
    rows = c.execute(
        SCORES_BY_SCORER,
        {"images": [claim.image_id for claim in claims], "of_scorers": sorted(set(scorer_ids.values()))},
    )
    known = {(row.image_id, row.scorer_id): row.score for row in rows}
    of_item = {claim.item_id: scorer_ids.get(claim.profile_id, "") for claim in claims}
    return [replace(claim, known_score=known.get((claim.image_id, of_item[claim.item_id]))) for claim in claims]


def renew(c: Connection, leases: Sequence[tuple[int, int]], lease_seconds: float) -> set[int]:
    """Extend the leases of (item id, fence) pairs; return the ids still held. Drop the others: they are lost."""
    ids, fences = [item_id for item_id, _ in leases], [fence for _, fence in leases]
    return set(c.execute(RENEW_LEASES, {"ids": ids, "fences": fences, "seconds": lease_seconds}).scalars())


def expire(c: Connection, item_ids: Sequence[int] | None = None, *, max_crashes: int, limit: int = 4096) -> int:
    """Count a crash for each lease that ran out (among `item_ids`, if given); return how many did."""
    rows = c.execute(EXPIRE_LEASES, {"ids": item_ids, "max_crashes": max_crashes, "limit": limit}).all()
    settle_results(c, [row.id for row in rows if row.state == ItemState.DEAD])
    return len(rows)

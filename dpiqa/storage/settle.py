"""Ends what waits for a teacher that will not speak: the student's score becomes the final one."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

_SETTLE = text(
    """
    WITH held AS (
        SELECT r.image_id, r.profile FROM items i
        JOIN jobs j ON j.id = i.job_id
        JOIN results r ON r.image_id = i.image_id AND r.profile = j.profile
        WHERE i.id = ANY (CAST(:ids AS bigint[])) AND i.stage = 'teacher' AND r.status = 'provisional'
        ORDER BY r.image_id, r.profile FOR NO KEY UPDATE OF r)
    UPDATE results r SET status = 'final', updated_at = clock_timestamp()
    FROM held WHERE r.image_id = held.image_id AND r.profile = held.profile
    """
)


def settle_results(c: Connection, item_ids: Sequence[int]) -> None:
    """Make the provisional results of these rejected or dead teacher items final."""
    if item_ids:
        c.execute(_SETTLE, {"ids": sorted(item_ids)})

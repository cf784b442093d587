"""Reason decoder_missing: an image of an optional format whose decoder the worker has not installed

Every statement may run twice: a migration that is interrupted between its transactions begins again. The CHECK is
validated while `items` is read and written.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

CHECK = (
    "state IN ('queued', 'leased', 'scored') AND reason IS NULL"
    " OR state = 'cancelled' AND reason IN ('job_cancelled')"
    " OR state = 'dead' AND reason IN ('repeated_errors', 'worker_crashes')"
    " OR state = 'deleted' AND reason IN ('object_deleted')"
    " OR state = 'rejected' AND reason IN ('access_denied', 'archived', 'corrupt', 'decode_crash', 'decode_timeout',"
    " {}'device_memory', 'empty', 'non_finite_score', 'not_an_image', 'not_found', 'too_many_bytes',"
    " 'too_many_pixels', 'truncated', 'unavailable', 'unsupported_colour', 'unsupported_encoding',"
    " 'unsupported_format')"
    " OR state = 'superseded' AND reason IN ('newer_version')"
)


def upgrade() -> None:
    _replace_check(CHECK.format("'decoder_missing', "))


def downgrade() -> None:
    """Return to the reasons before: what had the new one counts as of an unsupported format."""
    op.execute("UPDATE items SET reason = 'unsupported_format' WHERE state = 'rejected' AND reason = 'decoder_missing'")
    _replace_check(CHECK.format(""))


def _replace_check(condition: str) -> None:
    """Exchange the CHECK in one short lock, NOT VALID, and validate it afterwards."""
    with op.get_context().autocommit_block():
        op.execute(
            "ALTER TABLE items DROP CONSTRAINT IF EXISTS items_reason_check,"
            f" ADD CONSTRAINT items_reason_check CHECK ({condition}) NOT VALID"
        )
        op.execute("SET statement_timeout = 0")
        op.execute("ALTER TABLE items VALIDATE CONSTRAINT items_reason_check")
        op.execute("SET statement_timeout = '30min'")

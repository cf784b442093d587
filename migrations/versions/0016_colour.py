"""Reason of images whose colours cannot be converted: unsupported_colour

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

REASONS = (
    "state IN ('queued', 'leased', 'scored') AND reason IS NULL"
    " OR state = 'cancelled' AND reason IN ('job_cancelled')"
    " OR state = 'dead' AND reason IN ('repeated_errors', 'worker_crashes')"
    " OR state = 'deleted' AND reason IN ('object_deleted')"
    " OR state = 'rejected' AND reason IN ('access_denied', 'archived', 'corrupt', 'decode_crash', "
    "'decode_timeout', 'device_memory', 'empty', 'non_finite_score', 'not_an_image', 'not_found', "
    "'too_many_bytes', 'too_many_pixels', 'truncated', {more}'unsupported_format')"
    " OR state = 'superseded' AND reason IN ('newer_version')"
)


def upgrade() -> None:
    _replace_check(REASONS.format(more="'unsupported_colour', "))


def downgrade() -> None:
    """Return to the reasons before: what had the new one counts as of an unsupported format."""
    op.execute("UPDATE items SET reason = 'unsupported_format' WHERE reason = 'unsupported_colour'")
    _replace_check(REASONS.format(more=""))


def _replace_check(condition: str) -> None:
    """Exchange the CHECK: added NOT VALID under a short lock, validated while items are read and written."""
    with op.get_context().autocommit_block():
        op.execute(
            "ALTER TABLE items DROP CONSTRAINT IF EXISTS items_reason_check,"
            f" ADD CONSTRAINT items_reason_check CHECK ({condition}) NOT VALID"
        )
        op.execute("SET statement_timeout = 0")
        op.execute("ALTER TABLE items VALIDATE CONSTRAINT items_reason_check")
        op.execute("SET statement_timeout = '30min'")

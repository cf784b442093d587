"""API keys and the audit; who submitted a job, and what its key is limited to

The new columns are NULL, which means for old rows what is true of them: submitted without a limit.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.add_column(
        "jobs", sa.Column("client", sa.Text, comment="name of the API key that submitted it; NULL: no stored key did")
    )
    op.add_column(
        "jobs",
        sa.Column("grants", ARRAY(sa.Text), comment="buckets and prefixes that the key is limited to; NULL: no limit"),
    )
    op.add_column(
        "reconciliations",
        sa.Column(
            "grants", ARRAY(sa.Text), comment="buckets and prefixes that the caller's key is limited to; NULL: no limit"
        ),
    )
    _api_keys()
    _audit()
    is_open = sa.text("client IS NOT NULL AND finished_at IS NULL")
    op.create_index("jobs_of_client", "jobs", ["client"], postgresql_where=is_open)  # empty: one read of a small table


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, nullable=False, comment="12 hex digits, random; part of the key, and shown"),
        sa.Column(
            "name", sa.Text, nullable=False, comment="the client that uses it; at most two live keys have one name"
        ),
        sa.Column(
            "digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the key, which itself is stored nowhere"
        ),
        sa.Column("scopes", ARRAY(sa.Text), nullable=False, comment="kinds of requests that it permits"),
        sa.Column("grants", ARRAY(sa.Text), comment="buckets and prefixes that it is limited to; NULL: no limit"),
        sa.Column("requests_per_minute", sa.Integer, comment="limit of its own; NULL: that of the settings"),
        sa.Column("max_open_jobs", sa.Integer, comment="limit of its own; NULL: that of the settings"),
        sa.Column("created_at", TIME, nullable=False, server_default=NOW, comment="when it was made"),
        sa.Column("expires_at", TIME, comment="when it ends by itself; NULL: never"),
        sa.Column("revoked_at", TIME, comment="when it was revoked; NULL: it was not"),
        sa.Column("last_used_at", TIME, comment="when it was used last, to about a minute; NULL: never"),
        sa.PrimaryKeyConstraint("id", name="api_keys_pkey"),
        comment="keys of the API; a row stays when its key has ended",
    )
    op.create_index("api_keys_name", "api_keys", ["name"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "id", sa.BigInteger, sa.Identity(always=True), nullable=False, comment="order in which they were written"
        ),
        sa.Column("at", TIME, nullable=False, server_default=NOW, comment="when it was done"),
        sa.Column("actor", sa.Text, nullable=False, comment="name of the key, bootstrap, local, or cli"),
        sa.Column("key_id", sa.Text, comment="id of the key; NULL: it is not a stored one"),
        sa.Column("account", sa.Text, comment="user and machine of the command line; NULL for the API"),
        sa.Column("address", sa.Text, comment="network address of the caller of the API; NULL for the command line"),
        sa.Column("request_id", sa.Text, comment="X-Request-ID of the request; NULL for the command line"),
        sa.Column("action", sa.Text, nullable=False, comment="what was done"),
        sa.Column("subject", sa.Text, nullable=False, comment="id or address of what it was done to"),
        sa.Column("detail", JSONB, comment="some words more; never a secret"),
        sa.PrimaryKeyConstraint("id", name="audit_pkey"),
        comment="who did what: changes and exports by users; removed after some time by the sweeper",
    )
    op.create_index("audit_at", "audit", ["at"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("api_keys")
    op.drop_column("reconciliations", "grants")
    op.drop_index("jobs_of_client", "jobs")
    op.drop_column("jobs", "grants")
    op.drop_column("jobs", "client")

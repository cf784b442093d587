"""Tables of API keys and of the audit. No transaction locks rows of these and of `tables.py` in another order.

Lock order: rows of these tables come after all others.
"""

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dpiqa.storage.columns import enum_column, time_column
from dpiqa.storage.tables import jobs, metadata
from dpiqa.types import AuditAction

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="12 hex digits, random; part of the key, and shown"),
    Column("name", Text, nullable=False, comment="the client that uses it; at most two live keys have one name"),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the key, which itself is stored nowhere"),
    Column("scopes", ARRAY(Text), nullable=False, comment="kinds of requests that it permits"),
    Column("grants", ARRAY(Text), comment="buckets and prefixes that it is limited to; NULL: no limit"),
    Column("requests_per_minute", Integer, comment="limit of its own; NULL: that of the settings"),
    Column("max_open_jobs", Integer, comment="limit of its own; NULL: that of the settings"),
    time_column("created_at", "when it was made", now=True),
    time_column("expires_at", "when it ends by itself; NULL: never"),
    time_column("revoked_at", "when it was revoked; NULL: it was not"),
    time_column("last_used_at", "when it was used last, to about a minute; NULL: never"),
    comment="keys of the API; a row stays when its key has ended",
)
Index("api_keys_name", api_keys.c.name)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="order in which they were written"),
    time_column("at", "when it was done", now=True),
    Column("actor", Text, nullable=False, comment="name of the key, bootstrap, local, or cli"),
    Column("key_id", Text, comment="id of the key; NULL: it is not a stored one"),
    Column("account", Text, comment="user and machine of the command line; NULL for the API"),
    Column("address", Text, comment="network address of the caller of the API; NULL for the command line"),
    Column("request_id", Text, comment="X-Request-ID of the request; NULL for the command line"),
    enum_column("action", AuditAction, "what was done"),
    Column("subject", Text, nullable=False, comment="id or address of what it was done to"),
    Column("detail", JSONB, comment="some words more; never a secret"),
    comment="who did what: changes and exports by users; removed after some time by the sweeper",
)
Index("audit_at", audit.c.at)

#: For the limit of a client's open jobs, paused ones included.
Index(
    "jobs_of_client",
    jobs.c.client,
    postgresql_where=jobs.c.client.is_not(None) & jobs.c.finished_at.is_(None),
)

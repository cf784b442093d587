"""Alembic environment, run by `dpiqa.storage.schema`, which hands over a connection under an advisory lock.

Its time-outs are set there once, for every migration. One that needs more time says so in its own transaction:
`op.execute("SET LOCAL statement_timeout = '2h'")`. What one sets for the session, outside a transaction, is left out
behind a pooler, which shares the session with others.
"""

from alembic import context

from dpiqa.storage import (
    access_tables,  # noqa: F401 - adds its tables to `metadata`
    callback_tables,  # noqa: F401 - likewise
    label_tables,  # noqa: F401 - likewise
    measure_tables,  # noqa: F401 - likewise
    report_tables,  # noqa: F401 - adds its tables to `metadata`
    requirement_tables,  # noqa: F401 - likewise
    result_tables,  # noqa: F401 - likewise
    upload_tables,  # noqa: F401 - likewise
    watch_tables,  # noqa: F401 - likewise
)
from dpiqa.storage.columns import TextEnum
from dpiqa.storage.tables import metadata


def render_item(kind, item, _context):
    """Write an enum-typed column into a new migration as what it is in the database: text."""
    return "sa.Text()" if kind == "type" and isinstance(item, TextEnum) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    transaction_per_migration=True,
    compare_server_default=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()

"""Alembic environment, run by `dpiqa.storage.schema`, which hands over a connection under an advisory lock.

Its time-outs are set there once, for every migration. One that needs more time says so in its own transaction:
`op.execute("SET LOCAL statement_timeout = '2h'")`. What one sets for the session, outside a transaction, is left out
behind a pooler, which shares the session with others.
"""

from alembic import context

from dpiqa.storage.columns import TextEnum
from dpiqa.storage.schema import all_tables


def render_item(kind, item, _context):
    """Write an enum-typed column into a new migration as what it is in the database: text."""
    return "sa.Text()" if kind == "type" and isinstance(item, TextEnum) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=all_tables(),
    transaction_per_migration=True,
    compare_server_default=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()

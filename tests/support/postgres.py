"""The tests' Postgres: fast settings, and databases that go away."""

from psycopg import sql

#: Data outlives a killed server, not a crashed machine.
UNSAFE_AND_FAST = {"fsync": "off", "full_page_writes": "off"}


def drop_database(server, name):
    """Drop a database and end its connections."""
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

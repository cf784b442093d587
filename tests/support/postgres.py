"""The tests' Postgres: fast settings, databases that go away, and another server than the embedded one."""

import contextlib

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from dpiqa.urls import normalise_database_url

#: Data outlives a killed server, not a crashed machine.
UNSAFE_AND_FAST = {"fsync": "off", "full_page_writes": "off"}


class NamedServer:
    """A running server, named by the URL of a user who may create databases. What `Postgres` offers to most tests."""

    def __init__(self, url):
        self._url = make_url(normalise_database_url(url))

    def url(self, database=None):
        """URL of one of its databases."""
        return self._url.set(database=database or self._url.database).render_as_string(hide_password=False)

    def create_database(self, name, template=None):
        """Create a database unless it exists, in the locale of the embedded server."""
        source = sql.Identifier(template or "template0")
        locale = sql.SQL("" if template else " ENCODING 'UTF8' LOCALE 'C'")
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source) + locale
        with contextlib.suppress(psycopg.errors.DuplicateDatabase), self.connect() as connection:
            connection.execute(command)

    def connect(self, database="postgres"):
        """Connect to one of its databases, each statement its own transaction."""
        url = make_url(self.url(database)).set(drivername="postgresql")
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, connect_timeout=5)


def drop_database(server, name):
    """Drop a database and end its connections."""
    with server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

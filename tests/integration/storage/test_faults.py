"""Faults of a real Postgres, and what our callers see of them."""

import threading
import uuid

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.engine import make_url

from dpiqa.errors import (
    ConfigurationError,
    DatabaseMisconfigured,
    DatabaseUnavailable,
    RowRefused,
    ValueRefused,
)
from dpiqa.exit_codes import ExitCode, exit_code
from dpiqa.storage import schema, schema_state
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.sqlstates import FAULT_OF_SQLSTATE, MEANINGS
from dpiqa.types import DatabaseFault

INSERT = "INSERT INTO profiles (id, definition) VALUES ('p', '{}')"


def admin(url, statement):
    """Run one statement as the owner of the server."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as c:
        c.execute(statement)


def database(url):
    return sql.Identifier(make_url(url).database)


@pytest.fixture
def role(database_url):
    """Give the URL and name of a user without any right of its own."""
    name = f"user_{uuid.uuid4().hex[:8]}"
    admin(database_url, sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush'").format(sql.Identifier(name)))
    url = make_url(database_url).set(username=name, password="hush").render_as_string(hide_password=False)
    yield url, name
    admin(database_url, sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
    admin(database_url, sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def fault(url, *statements, **options):
    """Return the error that the statements end in."""
    engine = make_engine(url, pool_size=1, **options)
    try:
        with pytest.raises(Exception) as caught, transaction(engine) as c:  # noqa: PT011, PT012
            for statement in statements:
                c.execute(text(statement) if isinstance(statement, str) else statement)
    finally:
        engine.dispose()
    error = caught.value
    assert "\n" not in str(error)
    assert "hush" not in str(error)
    return error


def test_read_only(database_url):
    admin(
        database_url, sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database(database_url))
    )
    error = fault(database_url, INSERT)
    assert (type(error), error.fault) == (DatabaseUnavailable, DatabaseFault.READ_ONLY)
    engine = make_engine(database_url)
    with pytest.raises(DatabaseUnavailable) as caught, transaction(engine) as c:
        schema_state.require_writable(c)
    engine.dispose()
    assert caught.value.fault is DatabaseFault.READ_ONLY


def test_a_right_that_is_missing(database_url, role):
    url, name = role
    admin(database_url, sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(name)))
    error = fault(url, INSERT)
    assert (type(error), error.fault) == (DatabaseMisconfigured, DatabaseFault.RIGHTS)
    assert exit_code(error) is ExitCode.CONFIGURATION
    engine = make_engine(url)
    with pytest.raises(DatabaseMisconfigured, match=r"may not change .*items"), transaction(engine) as c:
        schema_state.require_writable(c)
    engine.dispose()


def test_a_table_that_is_gone(database_url):
    admin(database_url, "DROP TABLE probes CASCADE")
    error = fault(database_url, "SELECT * FROM probes")
    assert (type(error), error.fault) == (DatabaseMisconfigured, DatabaseFault.SCHEMA)


def test_too_many_connections(database_url, role):
    url, name = role
    admin(database_url, sql.SQL("ALTER ROLE {} CONNECTION LIMIT 1").format(sql.Identifier(name)))
    with psycopg.connect(url.replace("+psycopg", "")):
        error = fault(url, "SELECT 1")
    assert (type(error), error.fault) == (DatabaseUnavailable, DatabaseFault.CONNECTIONS)
    assert exit_code(error) is ExitCode.UNREACHABLE


def test_no_connection_of_our_own_is_free(database_url):
    engine = make_engine(database_url, pool_size=1, statement_timeout=1)
    engine.pool._timeout = 0.1
    with transaction(engine), transaction(engine), pytest.raises(DatabaseUnavailable) as caught, transaction(engine):
        pass
    engine.dispose()
    assert caught.value.fault is DatabaseFault.CONNECTIONS


def test_a_statement_and_a_lock_that_take_too_long(database_url):
    error = fault(database_url, "SELECT pg_sleep(9)", statement_timeout=0.1)
    assert (type(error), error.fault) == (DatabaseUnavailable, DatabaseFault.TOO_SLOW)
    engine = make_engine(database_url)
    with transaction(engine) as c:
        c.execute(text("LOCK TABLE profiles"))
        error = fault(database_url, INSERT, lock_timeout=0.1)
    engine.dispose()
    assert (type(error), error.fault) == (DatabaseUnavailable, DatabaseFault.CONTENDED)


def test_a_killed_backend(database_url):
    error = fault(database_url, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert (type(error), error.fault) == (DatabaseUnavailable, DatabaseFault.UNREACHABLE)


@pytest.mark.parametrize("value", ["nul\0", "half \ud800 of a pair"])
def test_text_that_cannot_be_stored(database_url, value):
    error = fault(database_url, text("SELECT CAST(:value AS text)").bindparams(value=value))
    assert type(error) is ValueRefused
    assert exit_code(error) is ExitCode.USAGE


def test_a_number_and_a_row_that_are_refused(database_url):
    assert type(fault(database_url, "SELECT CAST(99999999999 AS integer)")) is ValueRefused
    error = fault(database_url, INSERT, INSERT)
    assert type(error) is RowRefused
    assert exit_code(error) is ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("53100", DatabaseFault.FULL),
        ("53200", DatabaseFault.FULL),
        ("53400", DatabaseFault.FULL),
        ("57P01", DatabaseFault.UNREACHABLE),
        ("57P03", DatabaseFault.UNREACHABLE),
        ("08006", DatabaseFault.UNREACHABLE),
        ("40001", DatabaseFault.CONTENDED),
        ("40P01", DatabaseFault.CONTENDED),
        ("26000", DatabaseFault.POOLER),
        ("42P05", DatabaseFault.POOLER),
        ("XX000", DatabaseFault.UNKNOWN),
        ("XX001", DatabaseFault.UNKNOWN),
        ("P0001", DatabaseFault.UNKNOWN),
        ("42601", DatabaseFault.UNKNOWN),
        ("ZZ999", DatabaseFault.UNKNOWN),
    ],
)
def test_what_the_server_says_decides(database_url, sqlstate, expected):
    error = fault(database_url, f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{sqlstate}'; END $$")
    assert isinstance(error, DatabaseUnavailable)
    assert error.fault is expected
    assert sqlstate in str(error)
    assert exit_code(error) is ExitCode.UNREACHABLE


def test_a_disk_that_was_full_just_now(database_url, monkeypatch):
    engine = make_engine(database_url)
    full = text("DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$")
    with pytest.raises(DatabaseUnavailable), transaction(engine) as c:
        c.execute(full)
    with pytest.raises(DatabaseUnavailable, match=r"no space.* a write failed 0 s ago"), transaction(engine) as c:
        schema_state.require_writable(c)
    monkeypatch.setattr(schema_state, "_FULL_SECONDS", 0)
    with transaction(engine) as c:
        schema_state.require_writable(c)
    engine.dispose()


def test_every_fault_has_a_meaning():
    assert set(MEANINGS) == set(DatabaseFault)
    assert {len(code) for code in FAULT_OF_SQLSTATE} == {2, 5}


def test_a_login_that_is_refused(database_url):
    url = make_url(database_url)
    for wrong in (url.set(password="hush"), url.set(database="nowhere"), url.set(username="nobody")):
        error = fault(wrong.render_as_string(hide_password=False), "SELECT 1")
        assert (type(error), error.fault) == (DatabaseMisconfigured, DatabaseFault.LOGIN)


@pytest.mark.parametrize(
    "parameter",
    [
        "sslmode=require",
        "sslmode=nonsense",
        "connect_timeout=abc",
        "keepalives_idle=abc",
        "channel_binding=require&sslmode=disable",
        "ssl_min_protocol_version=nonsense",
        "sslmode=disable&sslnegotiation=direct",
        "require_auth=gss",
        "hostaddr=nonsense",
    ],
)
def test_a_parameter_of_the_url_that_is_wrong(database_url, parameter):
    error = fault(f"{database_url}?{parameter}", "SELECT 1")
    assert (type(error), error.fault) == (DatabaseMisconfigured, DatabaseFault.URL)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_with_another_encoding_is_refused(postgres_server, encoding):
    name = f"test_{uuid.uuid4().hex}"
    with postgres_server.connect() as c:
        statement = "CREATE DATABASE {} ENCODING {} LOCALE 'C' TEMPLATE template0"
        c.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Literal(encoding)))
    try:
        with pytest.raises(ConfigurationError, match=rf"stores text as {encoding}") as caught:
            schema.upgrade(postgres_server.url(name))
        assert "ENCODING 'UTF8'" in caught.value.hint
    finally:
        with postgres_server.connect() as c:
            c.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_user_who_may_not_make_tables_is_told_the_grant_to_run(empty_database_url):
    name = f"user {uuid.uuid4().hex[:8]}"
    admin(empty_database_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    admin(empty_database_url, sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush'").format(sql.Identifier(name)))
    url = make_url(empty_database_url).set(username=name, password="hush").render_as_string(hide_password=False)
    try:
        for schema_name in (None, "iqa"):
            with pytest.raises(DatabaseMisconfigured) as caught:
                schema.upgrade(url, schema=schema_name)
            command = caught.value.hint.partition(": ")[2]
            assert command.endswith(f'"{name}";')
            admin(empty_database_url, command)
            schema.upgrade(url, schema=schema_name)
            schema.upgrade(url, schema=schema_name)
    finally:
        admin(empty_database_url, sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
        admin(empty_database_url, sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_a_search_path_that_names_no_schema_is_told_from_a_right_that_is_missing(empty_database_url):
    with pytest.raises(DatabaseMisconfigured, match="search path nowhere names no schema that exists"):
        schema.upgrade(f"{empty_database_url}?options=-csearch_path%3Dnowhere")


def test_text_is_stored_as_utf8_whatever_encoding_the_url_names(database_url):
    engine = make_engine(f"{database_url}?client_encoding=latin1")
    with transaction(engine) as c:
        assert c.execute(text("SELECT CAST(:key AS text)"), {"key": "日本/😀.jpg"}).scalar_one() == "日本/😀.jpg"
    engine.dispose()


def test_a_schema_of_its_own(empty_database_url):
    schema.upgrade(empty_database_url, schema="Image scores")
    for url, name in (
        (empty_database_url, "Image scores"),
        (empty_database_url + "?options=-csearch_path%3D%22Image%5C%20scores%22", None),
    ):
        engine = make_engine(url, schema=name)
        with transaction(engine) as c:
            assert c.execute(text("SELECT count(*) FROM items")).scalar_one() == 0
            found = c.execute(
                text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('items', 'alembic_version')")
            )
            assert found.scalars().all() == ["Image scores"]
            schema_state.require_writable(c)
        assert schema_state.state(engine).is_current
        engine.dispose()
    schema.downgrade(empty_database_url, "base", schema="Image scores")


def test_prepared_statements_that_are_lost_are_given_up(database_url):
    engine = make_engine(database_url, pool_size=1)

    def lose_them():
        with transaction(engine) as c:
            for _ in range(10):
                c.execute(text("SELECT count(*) FROM items WHERE id = :id"), {"id": 1})
            # as if the next transaction had another session; hidden from psycopg, which would forget them too
            c.execute(text("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"))
            c.execute(text("SELECT count(*) FROM items WHERE id = :id"), {"id": 1})

    with pytest.raises(DatabaseUnavailable) as caught:
        lose_them()
    assert caught.value.fault is DatabaseFault.POOLER
    for _ in range(3):
        with transaction(engine) as c:
            for _ in range(10):
                c.execute(text("SELECT count(*) FROM items WHERE id = :id"), {"id": 1})
            assert c.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
            assert c.execute(text("SHOW statement_timeout")).scalar_one() == "30s"
    engine.dispose()


def test_a_deadlock_names_no_row(database_url):
    engine = make_engine(database_url)
    with transaction(engine) as c:
        c.execute(text("INSERT INTO profiles (id, definition) VALUES ('a', '{}'), ('b', '{}')"))
    both, errors = threading.Barrier(2), []

    def cross(first, second):
        try:
            with transaction(engine) as c:
                c.execute(text("UPDATE profiles SET definition = '{}' WHERE id = :id"), {"id": first})
                both.wait(10)
                c.execute(text("UPDATE profiles SET definition = '{}' WHERE id = :id"), {"id": second})
        except DatabaseUnavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=cross, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    engine.dispose()
    (error,) = errors
    assert error.fault is DatabaseFault.CONTENDED

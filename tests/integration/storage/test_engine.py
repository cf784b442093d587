import socket
import threading
import time

import pytest
from sqlalchemy import text

from dpiqa.errors import ConfigurationError, DatabaseMisconfigured, DatabaseUnavailable
from dpiqa.retries import retry_transaction
from dpiqa.storage.engine import make_engine, transaction


def fails(url, **options):
    engine = make_engine(url, **options)
    try:
        with transaction(engine) as c:
            c.execute(text("SELECT 1"))
    finally:
        engine.dispose()


def test_no_server_at_the_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        with pytest.raises(DatabaseUnavailable) as caught:
            fails(f"postgresql://u:secret@127.0.0.1:{s.getsockname()[1]}/d")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://u@h/d", "nonsense", "postgresql://u@h:port/d", ""])
def test_a_url_that_cannot_be_read(url):
    with pytest.raises(ConfigurationError, match="DPIQA_DATABASE_URL"):
        make_engine(url)


def test_a_wrong_password_or_database_is_not_tried_again(database_url):
    for wrong in (database_url.rsplit("/", 1)[0] + "/nowhere", database_url.replace("@", "x@", 1)):
        with pytest.raises(DatabaseMisconfigured):
            fails(wrong)


def test_a_statement_that_takes_too_long_is_cancelled(database_url):
    engine = make_engine(database_url, statement_timeout=0.2)
    with pytest.raises(DatabaseUnavailable), transaction(engine) as c:
        c.execute(text("SELECT pg_sleep(5)"))
    engine.dispose()


def test_a_lost_connection_is_replaced(engine):
    with pytest.raises(DatabaseUnavailable), transaction(engine) as c:
        c.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with transaction(engine) as c:
        assert c.execute(text("SELECT 1")).scalar_one() == 1


def test_any_error_rolls_back(engine):
    def half_way():
        with transaction(engine) as c:
            c.execute(text("INSERT INTO profiles (id, definition) VALUES ('p', '{}')"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_way()
    with transaction(engine) as c:
        assert c.execute(text("SELECT count(*) FROM profiles")).scalar_one() == 0


def test_the_victim_of_a_deadlock_tries_again(engine):
    with transaction(engine) as c:
        c.execute(text("INSERT INTO profiles (id, definition) VALUES ('a', '{}'), ('b', '{}')"))
    tries, both = [], threading.Barrier(2)

    def cross(first, second):
        def once():
            tries.append(first)
            with transaction(engine) as c:
                for name in (first, second):
                    c.execute(text("UPDATE profiles SET definition = '{}' WHERE id = :id"), {"id": name})
                    if name == first and tries.count(first) == 1:
                        both.wait(10)

        retry_transaction(once)

    threads = [threading.Thread(target=cross, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert len(tries) == 3


def test_retrying_gives_up_after_its_attempts():
    calls = []

    def down():
        calls.append(time.monotonic())
        raise DatabaseUnavailable("down")

    with pytest.raises(DatabaseUnavailable):
        retry_transaction(down, attempts=3, max_wait=0.01)
    assert len(calls) == 3


@pytest.mark.parametrize(("custom", "mode"), [(False, "auto"), (True, "force_custom_plan")])
def test_queries_may_be_planned_for_their_values(database_url, custom, mode):
    engine = make_engine(database_url, custom_plans=custom)
    with transaction(engine) as c:
        assert c.execute(text("SHOW plan_cache_mode")).scalar_one() == mode
    engine.dispose()

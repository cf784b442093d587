"""PgBouncer in transaction mode, as it comes."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from support import pgbouncer
from support.ledger import Ledger, refs

from dpiqa.errors import DatabaseMisconfigured, DatabaseUnavailable
from dpiqa.storage import schema, schema_state
from dpiqa.storage.engine import make_engine, reading, transaction
from dpiqa.types import DatabaseFault

pytestmark = pytest.mark.skipif(pgbouncer.PROGRAM is None, reason="pgbouncer is not installed")

UNTOUCHED = {("0", "0", "0", '"$user", public')}


@pytest.fixture
def pooler(empty_database_url):
    with tempfile.TemporaryDirectory() as folder:
        pooler = pgbouncer.PgBouncer(Path(folder), empty_database_url)
        yield pooler
        pooler.stop()


def test_the_ledger_works_through_it_and_leaves_no_trace_in_shared_sessions(pooler):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(schema.upgrade, [pooler.url] * 2))  # they take turns
    engine = make_engine(pooler.url, pool_size=8, statement_timeout=7, lock_timeout=3, schema="public")
    ledger = Ledger(engine)

    def work(number):
        job, ids = ledger.submit(refs(20, start=20 * number))
        for _ in range(8):  # more often than a driver needs to prepare a statement
            with reading(engine) as c:
                assert c.execute(text("SELECT count(*) FROM items WHERE job_id = :id"), {"id": job.id}).scalar() == 20
        claims = ledger.claim(ids)
        with (reading if number % 2 else transaction)(engine) as c:
            shown = c.execute(text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"))
            assert tuple(shown.one()) == ("7s", "3s")
        return len(claims)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [20] * 8
    assert ledger.one("SELECT count(*) FROM pg_prepared_statements") == 0
    assert pooler.settings() == UNTOUCHED
    with pytest.raises(DatabaseUnavailable) as caught, transaction(make_engine(pooler.url, statement_timeout=0.1)) as c:
        c.execute(text("SELECT pg_sleep(9)"))
    assert caught.value.fault is DatabaseFault.TOO_SLOW
    engine.dispose()


def test_a_schema_of_its_own_through_it(pooler, empty_database_url):
    with pytest.raises(DatabaseMisconfigured, match="through a pooler") as caught:
        schema.upgrade(pooler.url, schema="iqa")
    assert 'SET search_path = "iqa";' in caught.value.hint
    schema.upgrade(empty_database_url, schema="iqa")  # not through it
    schema.upgrade(pooler.url, schema="iqa")
    engine = make_engine(pooler.url, schema="iqa")
    with transaction(engine) as c:
        tables = c.execute(text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('items', 'images')"))
        assert tables.scalars().all() == ["iqa"]
        assert c.execute(text("SELECT count(*) FROM items")).scalar_one() == 0
    assert schema_state.state(engine).is_current
    engine.dispose()
    assert pooler.settings() == UNTOUCHED


def test_parameters_that_it_refuses_are_named(pooler):
    engine = make_engine(pooler.url + "?options=-csearch_path%3Diqa")
    with pytest.raises(DatabaseMisconfigured, match="unsupported startup parameter: options"), transaction(engine):
        pass
    engine.dispose()

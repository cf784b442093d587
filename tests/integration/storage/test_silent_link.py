"""A link to Postgres that swallows everything, while TCP still acknowledges: every wait ends on the client's side.

It takes as long as the time-outs themselves.
"""

import threading
import time

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from support.proxy import Proxy

from dpiqa.errors import DatabaseUnavailable
from dpiqa.storage.connections import ANSWER_SECONDS
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.types import DatabaseFault

ONE = text("SELECT 1")


@pytest.fixture
def proxy(database_url):
    proxy = Proxy(make_url(database_url).port)
    yield proxy
    proxy.close()


def test_statements_commits_and_checks_of_idle_connections_end(database_url, proxy):
    url = make_url(database_url).set(port=proxy.port).render_as_string(hide_password=False)
    engine = make_engine(url, statement_timeout=1)
    with transaction(engine) as a, transaction(engine) as b, transaction(engine) as c, transaction(engine) as d:
        for connection in (a, b, c, d):  # four connections, all idle afterwards
            connection.execute(ONE)
    ready, silent, took = threading.Barrier(3), threading.Event(), {}

    def statement():
        with transaction(engine) as c:
            c.execute(ONE)
            ready.wait(10)
            silent.wait(10)
            c.execute(ONE)

    def commit():
        with transaction(engine) as c:
            c.execute(ONE)
            ready.wait(10)
            silent.wait(10)

    def check():
        with transaction(engine) as c:
            c.execute(ONE)

    def measure(step):
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable) as caught:
            step()
        assert caught.value.fault is DatabaseFault.UNREACHABLE
        took[step.__name__] = time.monotonic() - started

    threads = [threading.Thread(target=measure, args=(step,)) for step in (statement, commit)]
    for thread in threads:
        thread.start()
    ready.wait(10)
    proxy.swallow()
    silent.set()
    threads.append(threading.Thread(target=measure, args=(check,)))
    threads[-1].start()
    for thread in threads:
        thread.join(60)
    assert took.keys() == {"statement", "commit", "check"}
    assert max(took["statement"], took["commit"]) < 1 + ANSWER_SECONDS + 4
    assert took["check"] < 2 * ANSWER_SECONDS + 4  # the check, then a new connection that does not come about
    proxy.restore()
    started = time.monotonic()
    for _ in range(4):  # none of the dead connections is used again
        check()
    assert time.monotonic() - started < ANSWER_SECONDS
    engine.dispose()

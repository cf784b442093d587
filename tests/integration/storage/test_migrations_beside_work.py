"""Migrations of a ledger in use: the release before them goes on, and waits no longer than a moment.

At a million rows, with that release's own code: `benchmarks/migrations.py`.
"""

import threading
import time

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import make_url
from support import release_0005

from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction

LONGEST = 5.0  #: seconds of one object on a busy machine; a lock that is held for a scan or a rewrite takes longer


class OldRelease(threading.Thread):
    """Scores one object after the other until it is stopped."""

    def __init__(self, url):
        super().__init__()
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self.ended = threading.Event()
        self.scored, self.longest, self.error = 0, 0.0, None

    def run(self):
        try:
            with psycopg.connect(self._url, autocommit=True) as c:
                while not self.ended.is_set():
                    began = time.monotonic()
                    self._score_one(c)
                    self.longest = max(self.longest, time.monotonic() - began)
        except Exception as error:
            self.error = error

    def _score_one(self, c):
        try:
            release_0005.score(c, self.scored)
        except psycopg.errors.DeadlockDetected:  # that release tries again
            release_0005.score(c, self.scored + 1_000_000)
        self.scored += 1


def test_the_release_of_0005_works_while_and_after_its_ledger_is_migrated(empty_database_url):
    schema.upgrade(empty_database_url, "0005")
    engine = make_engine(empty_database_url)
    with engine.begin() as c:
        c.exec_driver_sql(release_0005.START)
    old = OldRelease(empty_database_url)
    old.start()
    while old.scored < 20 and old.error is None:
        time.sleep(0.01)
    schema.upgrade(empty_database_url)
    n_during = old.scored
    while old.scored < n_during + 20 and old.error is None:
        time.sleep(0.01)
    old.ended.set()
    old.join()
    assert old.error is None
    assert old.longest < LONGEST
    with transaction(engine) as c:
        n_items, n_results, n_counted = c.execute(
            text(
                "SELECT (SELECT count(*) FROM items WHERE state = 'scored'), (SELECT count(*) FROM results), "
                "(SELECT sum(n) FROM (SELECT n, state FROM job_counts UNION ALL SELECT n, state FROM count_changes) k "
                "WHERE state = 'scored')"
            )
        ).one()
    engine.dispose()
    assert n_items == n_results == n_counted >= old.scored

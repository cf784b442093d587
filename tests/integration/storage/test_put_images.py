"""Listed pages are added by set-based statements: the same rows as when every key's versions are compared."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
from conftest import TEMPLATE
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.ledger import ALONE, BOTH, Ledger, ref, refs
from support.postgres import drop_database

from dpiqa.storage import images, version_rows
from dpiqa.storage.engine import make_engine
from dpiqa.storage.images import mark_gone, remove_objects
from dpiqa.storage.items import Changed, Scored
from dpiqa.types import Removal, Stage

KEYS = ("a", "b", "c", "d")
#: Without a cap: which of a page's images it lets through depends on the order of their ids, which may differ.
UNCAPPED = BOTH.model_copy(update={"name": "uncapped", "max_escalated_share": 1.0})
#: Seconds after T0; None: a manifest without dates. Events have fractions, listings have none.
TIMES = st.sampled_from([None, 0, 1, 1.5, 2, 3])
REFS = st.builds(
    lambda key, etag, at, sequencer: ref(key, etag, at=at, sequencer=sequencer),
    st.sampled_from(KEYS),
    st.sampled_from(["e1", "e1", "e2", "e3", ""]),
    TIMES,
    st.sampled_from([None, None, None, "01", "02", "03"]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.lists(REFS, min_size=1, max_size=6)),
        st.tuples(st.just("page"), st.integers(0, 2), st.lists(REFS, unique_by=lambda one: one.key, min_size=1)),
        st.tuples(st.just("remove"), st.sampled_from(KEYS), st.tuples(TIMES, st.sampled_from([None, "02"]))),
        st.tuples(st.just("score"), st.integers(0, 2), st.sampled_from([0.5, 0.9])),
        st.tuples(st.just("gone"), st.sampled_from(KEYS), st.none()),
        st.tuples(st.just("found"), st.sampled_from(KEYS), REFS),
    ),
    max_size=14,
)


@pytest.fixture(scope="module")
def shared(postgres_server):
    """A ledger for many histories, each in buckets and jobs of its own."""
    name = f"test_{uuid4().hex}"
    postgres_server.create_database(name, TEMPLATE)
    engine = make_engine(postgres_server.url(name), pool_size=4)
    yield Ledger(engine, UNCAPPED)
    engine.dispose()
    drop_database(postgres_server, name)


class History:
    """One bucket, whose jobs and events are those of another one that is written in another way."""

    def __init__(self, ledger, bucket):
        self.ledger, self.bucket = ledger, bucket
        self.jobs = [ledger.job(bucket=bucket), ledger.job(bucket=bucket), ledger.job(bucket=bucket, profile=ALONE)]

    def step(self, action, what, more):
        getattr(self, action)(what, more)

    def add(self, number, refs_):
        self.ledger.add(self.jobs[number], [replace(one, bucket=self.bucket) for one in refs_])

    page = add

    def remove(self, key, event):
        at, sequencer = event
        (removal,) = [
            Removal(bucket=self.bucket, key=key, occurred_at=ref(key, at=at).last_modified, sequencer=sequencer)
        ]
        self.ledger.do(remove_objects, [removal])

    def score(self, number, value):
        job = self.jobs[number]
        for stage in Stage:
            ids = [
                row.id for row in self.ledger.sql("SELECT id FROM items WHERE job_id = :job ORDER BY id", job=job.id)
            ]
            self.ledger.score(ids, stage=stage, value=value, profile=ALONE if number == 2 else UNCAPPED)

    def gone(self, key, _):
        ids = [
            row.id
            for row in self.ledger.sql(
                "SELECT id FROM images WHERE bucket = :bucket AND key = :key AND current", bucket=self.bucket, key=key
            )
        ]
        self.ledger.do(mark_gone, ids)

    def found(self, key, other):
        """A worker that claimed one version reads another one."""
        rows = self.ledger.sql(
            "SELECT i.id FROM items i JOIN images m ON m.id = i.image_id WHERE m.bucket = :bucket AND m.key = :key "
            "AND i.job_id = :job ORDER BY i.id LIMIT 1",
            bucket=self.bucket,
            key=key,
            job=self.jobs[0].id,
        )
        claims = self.ledger.claim([row.id for row in rows])
        new = replace(other, bucket=self.bucket, key=key, sequencer=None)
        self.ledger.record([Changed(claim, new) for claim in claims])

    def rows(self):
        """Everything but ids and the database's own clock."""
        number = {job.id: n for n, job in enumerate(self.jobs)}
        of_images = self.ledger.sql(
            "SELECT key, etag, version_id, size, last_modified, news_at, sequencer, current, deleted_at IS NULL "
            "FROM images WHERE bucket = :bucket ORDER BY key, etag",
            bucket=self.bucket,
        )
        of_items = self.ledger.sql(
            "SELECT i.job_id, m.key, m.etag, i.stage, i.state, i.queue, i.reason, i.route, i.attempt, i.errors, "
            "i.finished_at IS NULL, i.rung_at IS NULL, i.owner FROM items i JOIN images m ON m.id = i.image_id "
            "WHERE m.bucket = :bucket ORDER BY m.key, m.etag",
            bucket=self.bucket,
        )
        of_results = self.ledger.sql(
            "SELECT key, etag, profile, score, status, route, current FROM results WHERE bucket = :bucket "
            "ORDER BY key, etag, profile",
            bucket=self.bucket,
        )
        return (
            [tuple(row) for row in of_images],
            sorted((number[job_id], *map(str, row)) for job_id, *row in of_items),
            [tuple(row) for row in of_results],
        )


def compare_everything(c, refs_):
    """Lock as `lock_known` does, and find that every ref must be compared."""
    version_rows.lock_known(c, refs_)
    return dict.fromkeys(range(len(refs_)))


@hypothesis_settings(max_examples=30)
@given(steps=STEPS)
def test_the_rows_are_those_of_comparing_the_versions_of_every_key(shared, steps):
    quick, careful = (History(shared, f"{way}-{uuid4()}") for way in ("quick", "careful"))
    for step in steps:
        quick.step(*step)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(images, "lock_known", compare_everything)
            careful.step(*step)
        assert quick.rows() == careful.rows(), step
    for job in quick.jobs:
        shared.check_counts(job)


def test_listings_and_events_of_the_same_keys_at_once_leave_the_newest_version_current(ledger):
    """Two jobs list the first versions; events bring the later ones, some of them first, some twice."""
    keys = [f"k{n:02}" for n in range(40)]
    watch, jobs = ledger.watch(), [ledger.job(), ledger.job()]
    events = [ref(key, f"e{n}", at=n) for key in keys for n in (2, 3, 3, 4)]
    shuffled = [events[i * 37 % len(events)] for i in range(len(events))]
    pages = [(job, [ref(key, "e1", at=1) for key in keys[start : start + 20]]) for start in (0, 20) for job in jobs]
    work = [(watch, shuffled[i : i + 3]) for i in range(0, len(shuffled), 3)]
    for position, page in zip((0, 3, 9, 20), pages, strict=True):
        work.insert(position, page)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: ledger.add(*one), work))
    current = ledger.sql("SELECT key, etag FROM images WHERE current ORDER BY key")
    assert [tuple(row) for row in current] == [(key, "e4") for key in keys]
    assert ledger.states(watch) == {"queued": 40, "superseded": 80}
    for job in jobs:
        assert ledger.states(job) == {"superseded": 40}
    assert ledger.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def test_a_listing_of_what_workers_score_and_lose_at_the_same_time(ledger):
    """No lock is taken in another order than the one that recording takes."""
    first, ids = ledger.submit(refs(200))
    jobs = [ledger.job() for _ in range(4)]

    def work(chunk):
        claims = ledger.claim(chunk)
        ledger.record([Scored(c, 0.9, "e9" if c.item_id % 5 == 0 else c.ref.etag) for c in claims])

    with ThreadPoolExecutor(6) as pool:
        chunks = [pool.submit(work, ids[i : i + 20]) for i in range(0, 200, 20)]
        pages = [pool.submit(ledger.add, job, list(reversed(refs(200)))) for job in jobs]
        for future in (*chunks, *pages):
            future.result()
    assert ledger.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert ledger.states(first)["scored"] == 160
    for job in jobs:
        ledger.check_counts(job)
    assert ledger.one("SELECT count(*) FROM images WHERE current") == 200

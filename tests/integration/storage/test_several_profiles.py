"""Jobs of several profiles in the ledger: items side by side, their chunks, and a database upgraded from before."""

import pytest
from sqlalchemy import text
from support.ledger import ALONE, Ledger, refs

from dpiqa.errors import Conflict, InvalidRequest, RowRefused
from dpiqa.profiles import Profile
from dpiqa.storage import schema
from dpiqa.storage.engine import make_engine, transaction
from dpiqa.storage.items import Rejected
from dpiqa.storage.job_queries import job_items
from dpiqa.storage.jobs import ensure_watch
from dpiqa.storage.lookups import lookup
from dpiqa.types import Reason

OTHER = Profile(name="other", version=1, student="student")
THIRD = Profile(name="third", version=1, student="student")


def images_of(ledger, ids):
    rows = ledger.sql("SELECT id, image_id FROM items WHERE id = ANY(:ids)", ids=list(ids))
    return {row.id: row.image_id for row in rows}


def test_an_image_has_an_item_per_profile_and_they_share_a_chunk(ledger):
    job, ids = ledger.submit(refs(50), profile=[ALONE, OTHER, THIRD])
    assert len(ids) == 150
    chunks = [ids for _, ids in ledger.feed(chunk=32)]
    assert sorted(item for chunk in chunks for item in chunk) == ids
    assert max(map(len, chunks)) <= 32
    image_of = images_of(ledger, ids)
    seen = [{image_of[item] for item in chunk} for chunk in chunks]
    assert sum(map(len, seen)) == 50  # no image is in two chunks
    assert ledger.report(job).by_profile == {name: {"queued": 50} for name in ("alone@1", "other@1", "third@1")}


def test_a_full_window_does_not_part_the_items_of_an_image(ledger):
    _, ids = ledger.submit(refs(10), profile=[ALONE, OTHER])
    chunks = [ids for _, ids in ledger.feed(window=5, chunk=5)]
    picked = [item for chunk in chunks for item in chunk]
    assert len(picked) == 6
    assert len({images_of(ledger, picked)[item] for item in picked}) == 3
    assert len(ids) == 20


def test_naming_an_image_again_adds_nothing_and_pages_hold_each_item_once(ledger):
    job, ids = ledger.submit(refs(7), profile=[ALONE, OTHER])
    assert len(ids) == 14
    assert ledger.sql("SELECT count(*) FROM items")[0][0] == 14
    seen, cursor = [], None
    while True:
        page = ledger.do(job_items, job.id, limit=3, cursor=cursor)
        seen += [(item.image_id, item.profile) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 14
    assert {profile for _, profile in seen} == {"alone@1", "other@1"}


def test_a_failure_under_several_profiles_is_one_example(ledger):
    job, ids = ledger.submit(refs(5), profile=[ALONE, OTHER, THIRD])
    claims = ledger.claim(ids)
    for profile in (ALONE, OTHER, THIRD):
        of_profile = [claim for claim in claims if claim.profile_id == profile.id]
        ledger.record([Rejected(claim, Reason.CORRUPT, "bad") for claim in of_profile], profile=profile)
    report = ledger.report(job)
    assert report.failures == {"corrupt": 15}
    assert report.examples == {"corrupt": ["k00000", "k00001", "k00002"]}
    items = ledger.do(lookup, "photos", "k00000").items
    assert sorted((item.profile, item.state) for item in items) == [
        ("alone@1", "rejected"),
        ("other@1", "rejected"),
        ("third@1", "rejected"),
    ]


def test_a_profile_is_named_once(ledger):
    with pytest.raises(InvalidRequest, match="named twice"):
        ledger.job(profile=[ALONE, ALONE])


def test_a_watch_of_several_profiles_is_another_request(ledger):
    watch = ledger.do(ensure_watch, "photos", "", [ALONE, OTHER])
    assert ledger.do(ensure_watch, "photos", "", [ALONE, OTHER]).id == watch.id
    with pytest.raises(Conflict, match="watched already"):
        ledger.do(ensure_watch, "photos", "", ALONE)
    assert len(ledger.add(watch, refs(2))) == 4


def test_the_previous_release_inserts_into_a_populated_database_until_a_job_needs_several(empty_database_url):
    old_insert = text(
        "INSERT INTO items (job_id, image_id, stage, state, queue) SELECT j.id, i.id, 'student', 'queued', 'bulk' "
        "FROM jobs j, images i ON CONFLICT (job_id, image_id) DO NOTHING"
    )
    old_fold = text(
        "INSERT INTO job_counts (job_id, stage, state, reason, n) SELECT job_id, stage, state, reason, sum(n) "
        "FROM count_changes GROUP BY 1, 2, 3, 4 ON CONFLICT (job_id, stage, state, reason) DO UPDATE SET n = 7"
    )
    schema.upgrade(empty_database_url, "0008")
    engine = make_engine(empty_database_url)
    with transaction(engine) as c:
        c.execute(text("INSERT INTO profiles (id, definition) VALUES ('p@1', '{}')"))
        c.execute(
            text(
                "INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue) VALUES "
                "('00000000-0000-0000-0000-000000000001', 'prefix', 'b', '', 'p@1', 'running', 'bulk')"
            )
        )
        c.execute(text("INSERT INTO images (bucket, key, etag, current) VALUES ('b', 'k', 'e', true)"))
        c.execute(old_insert)
    schema.upgrade(empty_database_url)
    with transaction(engine) as c:
        c.execute(old_insert)
        c.execute(old_fold)
        c.execute(old_fold)
    ledger = Ledger(engine)
    ledger.submit(refs(3))
    with pytest.raises(RowRefused), transaction(engine) as c:
        c.execute(
            text(
                "INSERT INTO items (job_id, image_id, profile, stage, state, queue) "
                "SELECT job_id, image_id, 'x@1', stage, state, queue FROM items"
            )
        )
    job, ids = ledger.submit(refs(3), profile=[ALONE, OTHER])
    assert len(ids) == 6
    ledger.job(profile=[ALONE, OTHER])
    ledger.score(ids[:1])
    ledger.feed()
    assert ledger.report(job).total == 6
    engine.dispose()

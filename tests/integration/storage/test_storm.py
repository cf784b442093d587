"""The promise itself: whatever dies, pauses or races, every image ends with exactly one score."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from support.ledger import T0, ref, refs

from dpiqa.storage.images import remove_objects
from dpiqa.storage.items import Scored
from dpiqa.types import JobState, Removal, Stage

WORKERS = 6
LEASE = 0.3  # seconds
PATIENCE = 90  # seconds


class Storm:
    """Workers who abandon leases, wake up late and record twice; a feeder that loses doorbells; a checker."""

    def __init__(self, ledger, jobs):
        self.ledger, self.jobs = ledger, jobs
        self.bells, self.lock = [], threading.Lock()
        self.late, self.refused, self.checked = [], 0, 0
        self.done = threading.Event()

    def run(self):
        with ThreadPoolExecutor(WORKERS + 3) as pool:
            threads = [pool.submit(self.work, n) for n in range(WORKERS)]
            threads += [pool.submit(self.feed, n) for n in range(2)] + [pool.submit(self.check)]
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline and not self.ended() and not any(t.done() for t in threads):
                time.sleep(0.1)
            self.done.set()
            for thread in threads:
                thread.result()
        assert self.ended(), [self.ledger.states(job) for job in self.jobs]

    def ended(self):
        return self.ledger.one("SELECT count(*) FROM items WHERE state IN ('queued', 'leased')") == 0

    def feed(self, seed):
        generator = random.Random(seed)
        while not self.done.is_set():
            rings = self.ledger.feed(window=60, chunk=8, rering_seconds=0.2, max_crashes=10_000)
            with self.lock:
                self.bells += [ids for _, ids in rings if generator.random() < 0.8]  # the broker loses the others
                generator.shuffle(self.bells)
            time.sleep(0.02)

    def work(self, n):
        generator = random.Random(n + 100)
        while not self.done.is_set():
            with self.lock:
                ids = self.bells.pop() if self.bells else None
            if ids is None:
                time.sleep(0.01)
                continue
            for stage in Stage:
                self.chunk(generator, n, ids, stage)

    def chunk(self, generator, n, ids, stage):
        claims = self.ledger.claim(ids, stage=stage, owner=f"w{n}", lease_seconds=LEASE, max_crashes=10_000)
        outcomes = [Scored(c, generator.uniform(0.3, 0.7), c.ref.etag) for c in claims]
        generator.shuffle(outcomes)
        chance = generator.random()
        if chance < 0.15:  # killed
            return
        if chance < 0.3:  # paused: records when the lease is long gone
            with self.lock:
                self.late.append((time.monotonic() + 2 * LEASE, stage, outcomes))
            return
        with self.lock:
            due = [one for one in self.late if one[0] < time.monotonic()]
            self.late = [one for one in self.late if one not in due]
        for _, its_stage, its_outcomes in due:
            self.refused += self.ledger.record(its_outcomes, stage=its_stage).n_stale
        self.ledger.record(outcomes, stage=stage)
        if chance > 0.9:  # the answer to COMMIT was lost: once more
            assert self.ledger.record(outcomes, stage=stage).n_recorded == 0

    def check(self):
        while not self.done.is_set():
            for job in self.jobs:
                self.ledger.check_counts(job)
            self.checked += 1
            time.sleep(0.05)


def deadlocks(ledger):
    return ledger.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


def test_crashes_pauses_and_lost_doorbells_leave_one_score_per_image(ledger_with_teacher):
    ledger = ledger_with_teacher
    jobs = [ledger.submit(refs(150))[0], ledger.submit(refs(150))[0], ledger.submit(refs(100, start=100))[0]]
    storm = Storm(ledger, jobs)
    storm.run()
    for job, n in zip(jobs, (150, 150, 100), strict=True):
        assert ledger.states(job) == {"scored": n}
        report = ledger.report(job)
        assert report.job.escalated <= max(1, report.job.scored_by_student // 2)
    ledger.feed()
    assert [ledger.report(job).job.state for job in jobs] == [JobState.COMPLETE] * 3
    assert ledger.one("SELECT count(*) FROM results") == ledger.one("SELECT count(*) FROM images") == 200
    assert ledger.one("SELECT count(*) FROM results WHERE status = 'final'") == 200
    assert ledger.one("SELECT count(*) FROM scores WHERE scorer_id LIKE 'student:%'") == 200
    wrong = (
        "SELECT count(*) FROM results r JOIN scores s USING (image_id, scorer_id) WHERE r.score <> s.score "
        "OR (r.stage = 'teacher') <> (r.teacher_score IS NOT NULL)"
    )
    assert ledger.one(wrong) == 0
    assert ledger.one("SELECT count(*) FROM items WHERE crashes > 0 OR attempt > 2") > 0, "the storm was a breeze"
    assert storm.checked > 3
    assert deadlocks(ledger) == 0


def test_overwrites_and_removals_in_the_storm_leave_the_newest_version_scored(ledger_with_teacher):
    ledger = ledger_with_teacher
    watch = ledger.watch()
    ledger.add(watch, [ref(f"k{i}", f"k{i}-e0", at=10) for i in range(60)])
    storm = Storm(ledger, [watch])

    def send_events(seed):
        generator = random.Random(seed)
        for at in range(20, 120):
            i = generator.randrange(60)
            if generator.random() < 0.2:
                when = T0.replace(minute=at // 60, second=at % 60)
                ledger.do(remove_objects, [Removal(bucket="photos", key=f"k{i}", occurred_at=when)])
            else:
                late = generator.choice([0, 0, 0, 15])
                ledger.add(watch, [ref(f"k{i}", f"k{i}-e{generator.randrange(4)}", at=at - late)])
            time.sleep(0.005)

    with ThreadPoolExecutor(2) as pool:
        sources = [pool.submit(send_events, seed) for seed in (1, 2)]
        storm.run()
        for source in sources:
            source.result()
    storm.done.clear()
    storm.run()  # what the last events brought
    current = {row.key: row.etag for row in ledger.sql("SELECT key, etag FROM images WHERE current")}
    counted = {row.key: row.etag for row in ledger.sql("SELECT key, etag FROM results WHERE current")}
    assert current == counted
    assert current
    assert "queued" not in ledger.states(watch)
    assert ledger.one("SELECT count(*) FROM items WHERE state = 'leased'") == 0
    gone = ledger.one(
        "SELECT count(*) FROM items i JOIN images m ON m.id = i.image_id WHERE m.current AND i.state <> 'scored'"
    )
    assert gone == 0

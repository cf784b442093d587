"""Jobs that are steered while real workers work on them."""

import time

import pytest
from support.ledger import refs
from support.photos import png

from dpiqa.doorbell import load_doorbell
from dpiqa.pipeline.steering import retry, steer
from dpiqa.storage import steering
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.listings import finish_listing, start_listing
from dpiqa.types import Reason

SECONDS = 5.0  #: in which a change takes effect


def fill(s3, n):
    body = png(0.2)
    for number in range(n):
        s3.put(f"{number:04}.png", body)


def change(system, function, job):
    doorbell = load_doorbell(system.settings)
    return steer(system.engine, job.id, function, doorbell).report


def test_a_job_is_paused_resumed_and_cancelled_in_the_middle(system, s3):
    fill(s3, 400)
    system.worker("student")
    system.worker("teacher")
    job = system.submit()
    system.wait(lambda: system.ended() >= 10, "first results")
    change(system, steering.pause_job, job)
    system.wait(lambda: "leased" not in system.states(), "end of what was being worked on", SECONDS)
    paused_at = system.ended()
    time.sleep(2)
    assert system.ended() == paused_at < 400
    assert "leased" not in system.states()
    change(system, steering.resume_job, job)
    system.wait(lambda: system.ended() > paused_at, "more results", SECONDS)
    change(system, steering.cancel_job, job)
    system.wait(lambda: not {"queued", "leased"} & system.states().keys(), "no open item", 20)
    report = system.report(job)
    states = system.states()
    assert (report.job.state, report.done, set(states)) == ("cancelled", report.total, {"scored", "cancelled"})
    assert system.value("SELECT count(*) FROM results WHERE status = 'final'") == states["scored"]
    # and what was cancelled is taken up again
    retry(system.engine, job.id, load_doorbell(system.settings))
    system.wait(lambda: system.report(job).job.state == "complete", "complete job")
    assert system.states() == {"scored": 400}
    report = system.report(job)
    assert report.mean_rate == pytest.approx(400 / report.duration_seconds)


def test_a_worker_is_killed_while_the_items_of_a_cancelled_job_are_ended(make_system, s3):
    system = make_system(lease_seconds=2)
    job = system.submit("none/")
    with transaction(system.engine) as c:
        job = start_listing(c, job.id, 60)
    for n in range(6):
        with transaction(system.engine) as c:
            add_images(c, job, refs(10_000, start=10_000 * n))
    with transaction(system.engine) as c:
        finish_listing(c, job)
    change(system, steering.cancel_job, job)
    cancelled = "SELECT count(*) FROM items WHERE state = 'cancelled'"
    worker = system.worker("teacher")
    system.wait(lambda: 10_000 < system.value(cancelled) < 60_000, "some cancelled items")
    worker.kill()
    assert system.report(job).job.state == "cancelled"
    assert system.value("SELECT count(*) FROM sweeps") == 1
    system.worker("teacher")
    system.wait(lambda: system.states() == {"cancelled": 60_000}, "no open item")
    system.wait(lambda: system.value("SELECT count(*) FROM sweeps") == 0, "finished sweep")
    assert system.report(job).by_state == {"cancelled": 60_000}


def test_what_was_denied_is_scored_once_it_is_allowed(system, s3):
    fill(s3, 20)
    s3.put("empty.png", b"")
    system.worker("student")
    system.worker("teacher")
    job = system.submit()
    system.wait(lambda: system.report(job).job.state == "complete", "complete job")
    assert system.report(job).failures == {Reason.EMPTY: 1}
    s3.put("empty.png", png(0.2))  # as if it had not been readable before
    steered = retry(system.engine, job.id, load_doorbell(system.settings), reasons=[Reason.EMPTY])
    assert (steered.n_retried, steered.report.job.state) == (1, "running")
    system.wait(lambda: system.report(job).job.state == "complete", "complete job")
    states = system.report(job).by_state
    assert (states["scored"], states.get("rejected", 0)) == (21, 0)

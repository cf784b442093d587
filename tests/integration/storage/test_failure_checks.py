"""Auto-pause: a job whose first images fail pauses itself, once."""

import pytest
from support.ledger import refs

from dpiqa.errors import InvalidRequest
from dpiqa.storage import failure_checks
from dpiqa.storage.counts import Count
from dpiqa.storage.failure_checks import add_failure_check, check_failures, judge, parse_auto_pause
from dpiqa.storage.items import Rejected
from dpiqa.storage.steering import resume_job
from dpiqa.types import ItemState, JobState, Reason, Stage


def counts(scored=0, *, queued=0, **reasons):
    by_reason = [Count(Stage.STUDENT, ItemState.REJECTED, Reason(reason), n) for reason, n in reasons.items()]
    waiting = Count(Stage.STUDENT, ItemState.QUEUED, None, queued)
    return [Count(Stage.STUDENT, ItemState.SCORED, None, scored), waiting, *by_reason]


@pytest.mark.parametrize(
    ("of_job", "decided", "pauses"),
    [
        (counts(), False, False),
        (counts(queued=5000, not_an_image=500), False, False),
        (counts(queued=5000, not_an_image=501), True, True),
        (counts(499, not_an_image=501), True, True),
        (counts(500, not_an_image=500), True, False),
        (counts(4000, not_an_image=3000), True, False),
        (counts(400, decode_crash=900), True, False),
        (counts(0, object_deleted=501), True, True),
        (counts(0, access_denied=400, empty=200), True, True),
    ],
)
def test_the_first_thousand_decide(of_job, decided, pauses):
    verdict = judge(of_job, 0.5)
    assert (verdict.decided, verdict.pause_reason is not None) == (decided, pauses)


def test_a_job_is_paused_says_why_and_is_not_paused_again_when_it_is_resumed(ledger, monkeypatch):
    monkeypatch.setattr(failure_checks, "FIRST_ITEMS", 10)
    job, ids = ledger.submit(refs(40))
    ledger.do(add_failure_check, job.id, 0.5)
    assert ledger.do(check_failures) == []

    def reject(some):
        ledger.record([Rejected(claim, Reason.NOT_AN_IMAGE, "text") for claim in ledger.claim(some)])

    reject(ids[:8])
    assert ledger.do(check_failures) == [job.id]
    paused = ledger.report(job).job
    assert paused.state is JobState.PAUSED
    assert paused.pause_reason == ("8 of the first 8 images cannot be scored, 8 of them not_an_image: a wrong address?")
    ledger.do(resume_job, job.id)
    reject(ids[8:20])
    assert ledger.do(check_failures) == []
    assert (ledger.report(job).job.state, ledger.report(job).job.pause_reason) == (JobState.RUNNING, None)


def test_the_share_is_read_and_checked():
    assert parse_auto_pause("50%") == parse_auto_pause("50") == 0.5
    assert parse_auto_pause("off") == parse_auto_pause("100%") == 1
    for wrong in ("half", "101%", "-1", "nan"):
        with pytest.raises(InvalidRequest):
            parse_auto_pause(wrong)

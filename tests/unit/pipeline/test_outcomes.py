import uuid
from dataclasses import replace

import pytest

from dpiqa.errors import CheckpointError, ImageRejected, ObjectChanged, ObjectGone, StoreUnavailable, Unavailable
from dpiqa.pipeline.outcomes import outcome_of_error
from dpiqa.storage.items import Changed, Claim, Failed, Gone, Postponed, Rejected
from dpiqa.types import ImageRef, Reason, Stage

REF = ImageRef(bucket="b", key="k", etag="e")
CLAIM = Claim(
    item_id=1,
    job_id=uuid.uuid4(),
    image_id=2,
    stage=Stage.STUDENT,
    ref=REF,
    fence=3,
    profile_id="smoke@1",
    crashes=0,
    known_score=None,
    student_score=None,
)


def test_what_is_wrong_with_the_image_ends_it():
    error = ImageRejected(Reason.TRUNCATED, "it ends too early")
    assert outcome_of_error(CLAIM, error) == Rejected(CLAIM, Reason.TRUNCATED, "it ends too early")
    assert outcome_of_error(CLAIM, ObjectGone("gone")) == Gone(CLAIM)
    assert outcome_of_error(CLAIM, ObjectChanged("overwritten", current=REF)) == Changed(CLAIM, REF)


@pytest.mark.parametrize("error", [StoreUnavailable("S3 does not answer"), Unavailable("no process can be started")])
def test_what_is_wrong_with_the_world_waits(error):
    outcome = outcome_of_error(CLAIM, error)
    assert isinstance(outcome, Postponed)
    assert outcome.detail == str(error)
    assert outcome.delay_seconds > 0


def test_a_store_that_asks_to_wait_is_left_alone_for_that_long():
    outcome = outcome_of_error(CLAIM, StoreUnavailable("503 SlowDown", retry_after=1800))
    assert outcome == Postponed(CLAIM, 1800, "503 SlowDown")


def test_an_object_at_which_the_store_always_fails_is_given_up_in_minutes():
    error = StoreUnavailable("500 InternalError", may_be_object=True)
    assert isinstance(outcome_of_error(CLAIM, error), Postponed)
    error.is_object = True
    delays = []
    for fence in range(1, 6):
        outcome = outcome_of_error(replace(CLAIM, fence=fence), error)
        assert (type(outcome), outcome.reason) == (Failed, Reason.UNAVAILABLE)
        delays.append(outcome.delay_seconds)
    assert 300 < sum(delays[:4]) <= 60 + 120 + 240 + 300


@pytest.mark.parametrize(
    "error", [ValueError("first\nsecond"), MemoryError(), CheckpointError("damaged"), SystemExit()]
)
def test_anything_else_is_tried_again_a_few_times(error):
    outcome = outcome_of_error(CLAIM, error)
    assert isinstance(outcome, Failed)
    assert outcome.detail.startswith(type(error).__name__)
    assert "\n" not in outcome.detail

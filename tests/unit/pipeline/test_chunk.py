import uuid

import pytest

from dpiqa.errors import CheckpointError, ImageRejected, ObjectChanged, ObjectGone, StoreUnavailable, Unavailable
from dpiqa.pipeline.chunk import outcome_of_error
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


@pytest.mark.parametrize(
    "error", [ValueError("first\nsecond"), MemoryError(), CheckpointError("damaged"), SystemExit()]
)
def test_anything_else_is_tried_again_a_few_times(error):
    outcome = outcome_of_error(CLAIM, error)
    assert isinstance(outcome, Failed)
    assert outcome.detail.startswith(type(error).__name__)
    assert "\n" not in outcome.detail

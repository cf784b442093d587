"""The line of progress of `dpiqa follow`."""

import pytest

from dpiqa.cli.jobs.follow import pace
from dpiqa.doorbell import Queue
from dpiqa.storage.job_queries import JobReport
from dpiqa.storage.jobs import Job
from dpiqa.types import JobKind, JobState


def report(**changes):
    job = Job(
        **dict.fromkeys(Job.__dataclass_fields__)
        | {"kind": JobKind.PREFIX, "state": changes.pop("state", JobState.RUNNING), "queue": Queue.BULK}
    )
    values = dict.fromkeys(JobReport.__dataclass_fields__) | {"total": 10, "done": 4, "rate": 2.0, "eta_seconds": 3.0}
    return JobReport(**values | {"job": job} | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "2.0/s, 3s left"),
        ({"state": JobState.LISTING}, "2.0/s, still listing the bucket"),
        ({"rate": 0.0, "eta_seconds": None}, "0.0/s"),
        ({"done": 10, "eta_seconds": 0.0}, "2.0/s"),
        ({"waiting_for": "a teacher worker: 3 items"}, "2.0/s, 3s left, waits for a teacher worker: 3 items"),
    ],
)
def test_progress_says_rate_time_left_and_what_is_waited_for(changes, words):
    assert pace(report(**changes)) == words

"""A device that is out of memory, answers no number, loses its context or hangs."""

import pytest

from dpiqa.exit_codes import WorkerExitCode


@pytest.mark.parametrize("fault", ["memory", "nan"])
def test_a_device_that_fails_in_batches_scores_every_image(story, n, fault):
    story.keep("listener", "teacher")
    story.keep("student", fault=fault)
    story.upload(n)
    story.finish()


@pytest.mark.parametrize(
    ("fault", "code"), [("fatal", WorkerExitCode.DEVICE_BROKEN), ("hang", WorkerExitCode.DEVICE_HANGS)]
)
def test_a_device_that_is_lost_ends_its_worker_once(story, n, fault, code):
    story.keep("listener", "teacher")
    story.keep("student", fault=fault)
    story.upload(n, seconds=5)
    story.finish(ends={"student": [code]})

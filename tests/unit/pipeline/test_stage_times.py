import time

import pytest

from dpiqa.pipeline.stage_times import StageTimes, Step


def test_the_difference_of_two_snapshots_describes_the_time_between_them():
    times = StageTimes()
    times.add(Step.FETCH, 3.0, images=3)
    before = times.snapshot()
    time.sleep(0.1)
    times.add(Step.FETCH, 1.5, images=2, cpu_seconds=0.5)
    times.add_batch(images=3, places=4, queue_seconds=0.6)
    times.add(Step.MODEL, 0.05, images=3)
    between = times.snapshot() - before
    fetch = between.steps[Step.FETCH]
    assert (fetch.seconds, fetch.cpu_seconds, fetch.images, fetch.calls) == (1.5, 0.5, 2, 1)
    assert between.steps[Step.RECORD].calls == 0
    assert 0.1 <= between.seconds < 10
    assert between.batch_fill == 0.75
    assert between.queue_delay == pytest.approx(0.2)
    assert between.device_busy == pytest.approx(0.05 / between.seconds)


def test_a_time_without_a_batch_has_no_fill():
    idle = StageTimes().snapshot()
    assert idle.batch_fill is None
    assert idle.queue_delay is None
    assert idle.device_busy == 0


def test_a_step_counts_its_processor_time_apart_from_its_waits_and_also_when_it_fails():
    times = StageTimes()

    def fail():
        with times.time(Step.FETCH):
            time.sleep(0.2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    fetch = times.snapshot().steps[Step.FETCH]
    assert fetch.seconds >= 0.2
    assert fetch.cpu_seconds < 0.1
    assert fetch.images == 1

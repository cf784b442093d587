import threading
import time
from concurrent.futures import CancelledError, wait

import pytest
from unit.pipeline.scorers import BROKEN, HANG, POISON, OddScorer, image

from dpiqa.pipeline.device import Device
from dpiqa.pipeline.scorers import LoadedScorer
from dpiqa.pipeline.stage_times import STAGES, Step
from dpiqa.watchdog import Watchdog


@pytest.fixture
def exits():
    return []


@pytest.fixture
def device(exits):
    watchdog = Watchdog(exits.append, tick_seconds=0.05)
    device = Device(max_wait=0.05, batch_seconds=0.2, exit_process=exits.append, watchdog=watchdog)
    yield device
    device.close()


def test_images_of_several_chunks_share_a_batch(device):
    scorer = OddScorer()
    loaded = LoadedScorer(scorer, max_batch=8)
    futures = []
    threads = [
        threading.Thread(target=lambda: futures.extend(device.submit(loaded, image(value)) for value in (51, 102)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(future.result(5) for future in futures) == pytest.approx([0.2] * 4 + [0.4] * 4)
    assert sum(scorer.batches) == 8
    assert len(scorer.batches) < 8


def test_scorers_never_share_a_batch(device):
    first, second = OddScorer(), OddScorer()
    both = LoadedScorer(first, max_batch=8), LoadedScorer(second, max_batch=8)
    futures = [device.submit(both[value % 2], image(value)) for value in range(10)]
    assert [future.result(5) for future in futures] == pytest.approx([value / 255 for value in range(10)])
    assert sum(first.batches) == sum(second.batches) == 5


def test_an_image_does_not_wait_for_a_full_batch(device):
    started = time.monotonic()
    assert device.submit(LoadedScorer(OddScorer(), max_batch=1000), image(51)).result(5) == pytest.approx(0.2)
    assert time.monotonic() - started < 2


def test_the_batch_size_that_fits_is_remembered(device):
    scorer = OddScorer(fits=2)
    loaded = LoadedScorer(scorer, max_batch=8)
    wait([device.submit(loaded, image(value)) for value in range(8)], timeout=5)
    assert loaded.max_batch == 2
    del scorer.batches[:]
    wait([device.submit(loaded, image(value)) for value in range(8)], timeout=5)
    assert max(scorer.batches) <= 2


def test_an_error_reaches_only_its_image(device):
    loaded = LoadedScorer(OddScorer(), max_batch=3)
    good, bad, other = (device.submit(loaded, image(value)) for value in (51, POISON, 102))
    assert (good.result(5), other.result(5)) == pytest.approx((0.2, 0.4))
    with pytest.raises(ValueError, match="poison"):
        bad.result(5)


def test_a_lost_device_ends_the_process(device, exits):
    future = device.submit(LoadedScorer(OddScorer(), max_batch=1), image(BROKEN))
    assert future.exception(5) is not None
    assert exits == [70]


def test_a_batch_that_takes_too_long_ends_the_process(device, exits):
    device.submit(LoadedScorer(OddScorer(), max_batch=1), image(HANG)).result(5)
    assert exits == [71]


def test_closing_cancels_what_still_waits():
    release = threading.Event()
    device = Device(max_wait=0, exit_process=lambda code: None)
    loaded = LoadedScorer(OddScorer(release=release), max_batch=1)
    first, second = device.submit(loaded, image(51)), device.submit(loaded, image(51))
    while not first.running():
        time.sleep(0.01)
    closing = threading.Thread(target=device.close)
    closing.start()
    time.sleep(0.1)
    release.set()
    closing.join(5)
    assert first.result(1) == pytest.approx(0.2)
    with pytest.raises(CancelledError):
        second.result(1)


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def transferred():
    return STAGES.snapshot().steps[Step.TRANSFER].images


def test_the_next_batch_is_copied_while_one_is_on_the_device(device):
    release = threading.Event()
    loaded = LoadedScorer(OddScorer(release=release), max_batch=2)
    before = transferred()
    first = [device.submit(loaded, image(51)) for _ in range(2)]
    wait_until(first[0].running)
    pixels = [image(102), image(204)]
    second = [device.submit(loaded, each) for each in pixels]
    wait_until(lambda: transferred() - before == 4)
    for each in pixels:
        each[:] = 0  # too late
    release.set()
    assert [future.result(5) for future in second] == pytest.approx([0.4, 0.8])


def test_the_device_goes_on_while_scores_are_answered(device):
    scorer, slow = OddScorer(), threading.Event()
    loaded = LoadedScorer(scorer, max_batch=1)
    device.submit(loaded, image(51)).add_done_callback(lambda _: slow.wait(10))
    device.submit(loaded, image(102))
    try:
        wait_until(lambda: scorer.batches == [1, 1])
    finally:
        slow.set()


def test_an_urgent_image_takes_a_place_in_a_batch_that_is_already_copied(device):
    release = threading.Event()
    scorer = OddScorer(release=release)
    loaded = LoadedScorer(scorer, max_batch=2)
    before = transferred()
    running = device.submit(loaded, image(0))
    wait_until(running.running)
    waiting = [device.submit(loaded, image(value)) for value in (10, 20, 30)]
    wait_until(lambda: transferred() - before == 3)
    ended = []
    urgent = device.submit(loaded, image(40), urgent=True)
    for name, future in {"first": waiting[0], "second": waiting[1], "third": waiting[2], "urgent": urgent}.items():
        future.add_done_callback(lambda _, name=name: ended.append(name))
    release.set()
    assert [future.result(5) for future in (*waiting, urgent)] == pytest.approx([v / 255 for v in (10, 20, 30, 40)])
    assert set(ended[:2]) == {"urgent", "first"}


def test_each_image_gets_its_own_score_whatever_else_comes_and_however_batches_shrink(device):
    scorer = OddScorer(fits=5)
    loaded = LoadedScorer(scorer, max_batch=16)
    values = [number * 7 % 250 for number in range(400)]
    futures = [device.submit(loaded, image(value), urgent=number % 3 == 0) for number, value in enumerate(values)]
    assert [future.result(20) for future in futures] == pytest.approx([value / 255 for value in values])
    assert loaded.max_batch == 4


def test_pixels_of_another_shape_are_refused(device):
    with pytest.raises(ValueError, match=r"expected \(4, 4, 3\) uint8"):
        device.submit(LoadedScorer(OddScorer(), max_batch=2), image(1)[:3])

"""Back-pressure: no more is fetched than the device, or a slow database, lets through."""

import time

import pytest

from dpiqa.objects.store import Fetched
from dpiqa.pipeline.preparer import BATCHES_AHEAD, Preparer
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef


class Store:
    def __init__(self):
        self.fetched = []

    def get(self, ref, max_bytes):
        self.fetched.append(ref.key)
        return Fetched(data=b"bytes", etag=ref.etag, version_id=None, last_modified=None)


class Decoder:
    def submit(self, data, preprocessing):
        raise AssertionError("nothing is decoded here")


@pytest.fixture
def settings():
    return load_settings(batch_size=2, teacher_batch_size=1, fetch_threads=4)


def fetch(preparer, n, *, urgent=False):
    name = "event" if urgent else "image"
    refs = [ImageRef(bucket="b", key=f"{name}{number}", etag="e") for number in range(n)]
    return [preparer.fetch(ref, "job", urgent=urgent) for ref in refs]


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_device_with_a_long_queue_stops_fetches_but_a_few_of_events(settings):
    store, backlog = Store(), [BATCHES_AHEAD * 2]
    preparer = Preparer(store, Decoder(), settings, backlog=lambda: backlog[0])
    try:
        waiting = fetch(preparer, 3)
        (urgent,) = fetch(preparer, 1, urgent=True)
        urgent.result(5).release()
        assert store.fetched == ["event0"]
        backlog[0] *= 2
        (too_many,) = fetch(preparer, 1, urgent=True)
        time.sleep(0.1)
        assert not too_many.done()
        backlog[0] = 0
        preparer.fetch_more()
        for future in (too_many, *waiting):
            future.result(5).release()
    finally:
        preparer.close()


def test_images_that_a_chunk_holds_while_the_database_is_slow_stop_fetches(settings):
    store = Store()
    preparer = Preparer(store, Decoder(), settings)
    try:
        preparer.hold(BATCHES_AHEAD * 2)
        waiting = fetch(preparer, 2)
        time.sleep(0.1)
        assert store.fetched == []
        preparer.pass_on(1)
        wait_until(lambda: len(store.fetched) == 2)
        for future in waiting:
            future.result(5).release()
    finally:
        preparer.close()

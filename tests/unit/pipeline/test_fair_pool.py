import threading
import time
from concurrent.futures import CancelledError, wait

import pytest

from dpiqa.pipeline.fair_pool import FairPool


@pytest.fixture
def make():
    """Give a function that makes a pool with a limit per group; it ends with the test."""
    pools = []

    def make(threads, per_group):
        pools.append(FairPool(threads, has_room=lambda group, running, urgent: running.get(group, 0) < per_group))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_results_and_errors_arrive(make):
    pool = make(2, 2)
    assert pool.submit("a", max, 1, 2).result(5) == 2
    with pytest.raises(ZeroDivisionError):
        pool.submit("a", lambda: 1 / 0).result(5)


def test_a_group_that_hangs_holds_only_its_own_part(make):
    pool, hanging = make(4, 2), threading.Event()
    stuck = [pool.submit("slow", hanging.wait, 20) for _ in range(10)]
    good = [pool.submit("good", time.sleep, 0.001) for _ in range(50)]
    assert len(wait(good, timeout=5).done) == 50
    assert not any(future.done() for future in stuck)
    hanging.set()
    assert len(wait(stuck, timeout=5).done) == 10


def test_groups_take_turns_and_urgent_calls_go_first(make):
    pool, begin, order = make(1, 1), threading.Event(), []
    first = pool.submit("a", begin.wait, 5)
    calls = [pool.submit(group, order.append, (group, number)) for group in "ab" for number in range(3)]
    calls += [pool.submit("a", order.append, ("a", "urgent"), urgent=True)]
    begin.set()
    wait([first, *calls], timeout=5)
    assert order[0] == ("a", "urgent")
    assert [group for group, _ in order[1:5]] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
    assert [number for group, number in order[1:] if group == "b"] == [0, 1, 2]


def test_what_waits_can_be_cancelled_and_a_closed_pool_cancels_it(make):
    pool, begin = make(1, 1), threading.Event()
    running, waiting, last = (pool.submit("a", begin.wait, 5) for _ in range(3))
    assert waiting.cancel()
    assert not running.cancel()
    assert pool.age(running) is not None
    assert pool.age(last) is None
    closing = threading.Thread(target=pool.close)
    closing.start()
    with pytest.raises(CancelledError):
        last.result(5)
    begin.set()
    closing.join(5)
    assert running.result(0)
    with pytest.raises(RuntimeError):
        pool.submit("a", print)


def test_room_that_appears_elsewhere_is_used_after_start():
    room = [0]
    pool = FairPool(2, has_room=lambda group, running, urgent: room[0] > 0)
    call = pool.submit("a", int)
    time.sleep(0.05)
    assert not call.done()
    room[0] = 1
    pool.start()
    assert call.result(5) == 0
    pool.close()

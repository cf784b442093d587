import threading
import time

from dpiqa.pipeline.lanes import Lanes


def test_a_lane_works_through_its_items_once_in_chunks():
    chunks = []
    lanes = Lanes(chunks.append, 2)
    lanes.add("b", "bulk", [3, 1, 2])
    deadline = time.monotonic() + 5
    while sum(map(len, chunks)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    lanes.add("b", "bulk", [4])
    while sum(map(len, chunks)) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(item for chunk in chunks for item in chunk) == [1, 2, 3, 4]
    assert max(map(len, chunks)) <= 2
    assert lanes.close() == []


def test_lanes_do_not_wait_for_each_other_and_survive_errors():
    end, worked = threading.Event(), threading.Event()

    def work(chunk):
        if chunk == [1]:
            end.wait(10)
        elif chunk == [2]:
            raise RuntimeError("an unexpected error")
        else:
            worked.set()

    lanes = Lanes(work, 1)
    lanes.add("slow", "bulk", [1])
    lanes.add("slow", "live", [2, 3])
    assert worked.wait(5)
    end.set()
    lanes.close()


def test_closing_waits_for_what_is_in_work_and_returns_what_waits():
    begun, end = threading.Event(), threading.Event()

    def work(chunk):
        begun.set()
        end.wait(10)

    lanes = Lanes(work, 1)
    lanes.add("b", "bulk", [1, 2, 3, 2])
    assert begun.wait(5)
    threading.Timer(0.1, end.set).start()
    assert lanes.close() == [2, 3]
    assert end.is_set()
    lanes.add("b", "bulk", [4])
    assert lanes.close() == [4]

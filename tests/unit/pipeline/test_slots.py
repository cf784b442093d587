import threading
import time

from dpiqa.doorbell import Queue
from dpiqa.pipeline.slots import Slots


def hold(slots, queue, until):
    """Hold a slot in a thread; returns an event that is set once it is held."""
    held = threading.Event()

    def run():
        with slots.hold(queue):
            held.set()
            until.wait(10)

    threading.Thread(target=run, daemon=True).start()
    return held


def test_submitted_work_waits_for_a_slot_and_events_do_not():
    slots, end = Slots(2), threading.Event()
    assert all(hold(slots, Queue.BULK, end).wait(5) for _ in range(2))
    assert slots.reads("bulk")
    third = hold(slots, Queue.BULK, end)
    assert not third.wait(0.1)
    assert hold(slots, Queue.LIVE, end).wait(5)
    assert not slots.reads("bulk")  # one chunk waits already, and none ended lately
    assert slots.reads("live")
    assert slots.reads("maintenance")
    end.set()
    assert third.wait(5)
    assert slots.reads("bulk")


def test_as_much_waits_as_is_worked_off_in_a_second():
    slots, end = Slots(1), threading.Event()
    for _ in range(3):
        with slots.hold(Queue.BULK):
            pass
    assert hold(slots, Queue.BULK, end).wait(5)
    for _ in range(3):
        hold(slots, Queue.BULK, end)
        time.sleep(0.05)
        assert slots.reads("bulk")
    hold(slots, Queue.BULK, end)
    time.sleep(1.1)
    assert not slots.reads("bulk")
    end.set()


def test_closing_lets_everybody_go_on():
    slots, end = Slots(1), threading.Event()
    assert hold(slots, Queue.TEACHER, end).wait(5)
    waiting = hold(slots, Queue.TEACHER, end)
    slots.close()
    assert waiting.wait(5)
    end.set()

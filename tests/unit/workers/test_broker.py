from dpiqa.workers.broker import TRANSPORT_OPTIONS, make_celery
from kombu.utils.scheduling import cycle_by_name

from dpiqa.messages import Queue


def test_live_is_asked_before_bulk_whatever_the_order_of_consumption():
    cycle = cycle_by_name(TRANSPORT_OPTIONS["queue_order_strategy"])()
    for queues in (["maintenance", "bulk", "live"], ["bulk", "live", "maintenance"]):
        cycle.update(queues)
        cycle.rotate("live")
        assert cycle.consume(3) == [Queue.LIVE, Queue.BULK, Queue.MAINTENANCE]


def test_a_message_is_a_doorbell_only():
    conf = make_celery("redis://127.0.0.1:1/0").conf
    assert conf.accept_content == ["json"]
    assert conf.task_ignore_result
    assert {queue.name: queue.no_ack for queue in conf.task_queues} == dict.fromkeys(map(str, Queue), True)
    assert conf.worker_prefetch_multiplier == 1
    assert conf.result_backend is None

from types import SimpleNamespace

from celery import Celery
from celery.worker.request import create_request_cls
from dpiqa.workers.broker import TRANSPORT_OPTIONS, celery_settings
from dpiqa.workers.tasks import DoorbellTask
from kombu.utils.scheduling import cycle_by_name

from dpiqa.broker_url import read_broker_url
from dpiqa.doorbell import Queue


def make_app():
    app = Celery("dpiqa", task_cls=DoorbellTask, set_as_current=False)
    app.conf.update(celery_settings(read_broker_url("redis://127.0.0.1:1/0")))
    return app


def test_live_is_asked_before_bulk_whatever_the_order_of_consumption():
    cycle = cycle_by_name(TRANSPORT_OPTIONS["queue_order_strategy"])()
    for queues in (["maintenance", "bulk", "live"], ["bulk", "live", "maintenance"]):
        cycle.update(queues)
        cycle.rotate("live")
        assert cycle.consume(3) == [Queue.LIVE, Queue.BULK, Queue.MAINTENANCE]


def test_a_received_message_is_never_acknowledged_to_redis():
    """Neither before, nor after, nor instead of work: over a connection that was lost it would end the worker."""
    app = make_app()

    @app.task(name="ring")
    def ring():
        pass

    acknowledgements = []
    header = {"id": "1", "task": "ring", "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"}
    message = SimpleNamespace(
        headers=header, properties={}, delivery_info={}, body=b"[[], {}, {}]", content_type="application/json",
        content_encoding="utf-8", payload=([], {}, {}),
    )  # fmt: skip
    request_class = create_request_cls(ring.Request, ring, Pool(), "here", None, app=app)
    request = request_class(
        message, on_ack=lambda *_: acknowledgements.append("ack"), app=app, task=ring, body=message.body
    )
    request.execute_using_pool(Pool())
    request.on_accepted(1, 0.0)
    request.on_success((0, None, 0.0))
    assert request.acknowledged
    assert acknowledgements == []


class Pool:
    """A pool that accepts work and does nothing with it."""

    def apply_async(self, *_, **__):
        return self


def test_a_message_is_a_doorbell_only():
    conf = make_app().conf
    assert conf.accept_content == ["json"]
    assert conf.task_ignore_result
    assert {queue.name: queue.no_ack for queue in conf.task_queues} == dict.fromkeys(map(str, Queue), True)
    assert conf.worker_prefetch_multiplier == 1
    assert conf.result_backend is None

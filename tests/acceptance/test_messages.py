"""Messages that are not doorbells, from anybody who can write to the broker: dropped, counted, and survived."""

import base64
import json
import re
import urllib.request

import redis
from celery import Celery
from support.photos import png

from dpiqa.local.commands import worker_command
from dpiqa.local.process import free_port

HEADERS = {"id": "1", "task": "dpiqa.score", "lang": "py"}
PROPERTIES = {"delivery_tag": "t", "delivery_info": {}, "body_encoding": "base64"}


def encoded(body):
    return base64.b64encode(body if isinstance(body, bytes) else json.dumps(body).encode()).decode()


def message(body=([[1]], {}, {}), content_type="application/json", headers=None, properties=None, raw=None):
    envelope = {
        "body": encoded(body),
        "content-type": content_type,
        "content-encoding": "utf-8",
        "headers": HEADERS | (headers or {}),
        "properties": PROPERTIES | (properties or {}),
    }
    return json.dumps(envelope | (raw or {}))


def doorbell(task, *arguments):
    return message((arguments, {}, {}), headers={"task": task})


#: Reason -> what somebody put into the list of a queue.
GARBAGE = {
    "not_json": [
        "hello", b"\xff\xfe\x00", "", "{", "[" * 100_000, '{"__type__": "uuid", "__value__": {}}',
        message((1, 2)), message(5), message(b"not json"), message(b"\xff\xfe"),
    ],
    "not_a_task": [
        "null", "[1, 2]", "5", '"text"', "{}", '{"body": ""}', message(raw={"headers": None}),
        message(raw={"headers": [1]}), message(raw={"properties": None}), message(raw={"properties": {}}),
        message(properties={"delivery_tag": None}), message(properties={"delivery_info": None}),
        message(properties={"body_encoding": "rot13"}), message(raw={"body": None}), message(raw={"body": {"a": 1}}),
        message(raw={"body": "a"}), message(headers={"id": None}), message(headers={"task": None}),
        message(headers={"task": ["dpiqa.score"]}),
        json.dumps({"body": encoded({"task": "dpiqa.score", "id": "1", "args": [[1]]}), "headers": {},
                    "properties": PROPERTIES, "content-type": "application/json"}),
    ],
    "unknown_task": [
        doorbell("celery.chord_unlock", "x"), doorbell("celery.backend_cleanup"), doorbell("os.system", "id"),
        doorbell("celery.map", {}, []), doorbell("dpiqa.nothing", 1), doorbell("x" * 100_000, 1),
    ],
    "content_type": [
        message(content_type="application/x-python-serialize"), message(content_type="application/x-yaml"),
        message(content_type=None), message(content_type=5), message(headers={"compression": "gzip"}),
    ],
    "too_large": ["x" * (5 * 1024**2), message(([list(range(1_000_000))], {}, {}))],
    "arguments": [
        doorbell("dpiqa.score"), doorbell("dpiqa.score", [1], [2]), doorbell("dpiqa.score", 1),
        doorbell("dpiqa.score", "12"), doorbell("dpiqa.score", [None]), doorbell("dpiqa.score", [True]),
        doorbell("dpiqa.score", [1.5]), doorbell("dpiqa.score", [2**63]), doorbell("dpiqa.score", [-1]),
        doorbell("dpiqa.score", {"a": 1}), doorbell("dpiqa.expand", "no-uuid"), doorbell("dpiqa.expand", None),
        doorbell("dpiqa.prepare", "1"), doorbell("dpiqa.report", [1]), doorbell("dpiqa.reconcile", 7),
        message(([[1]], {"also": 1}, {})), message(({}, {}, {})), message(("ab", {}, {})),
    ],
}  # fmt: skip
#: Doorbells, with more in them than a doorbell has: what is not needed is not used.
STRANGE = [
    message(headers={"eta": "2999-01-01T00:00:00"}),
    message(headers={"eta": {}, "expires": [], "timelimit": "x", "retries": "many", "shadow": 5, "group": {}}),
    message(([[1]], {}, {"chain": [{"task": "dpiqa.expand", "args": ["x"], "kwargs": {}, "options": {}}]})),
    message(([[1]], {}, {"callbacks": [{"task": "x"}], "errbacks": 7, "chord": "x"})),
    message(properties={"reply_to": "live", "priority": "high", "correlation_id": {}}),
    doorbell("dpiqa.score", []),
]
#: What somebody published to all workers.
BROADCASTS = ["nonsense", "null", "[1]", "{}", '{"properties": {}}', b"\xff", "x" * 5_000_000]


def counts(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.findall(r'dpiqa_messages_dropped_total\{queue="(\w+)",reason="(\w+)"\} (\d+)', text)
    return {(queue, reason): int(n) for queue, reason, n in found}


def test_what_is_no_doorbell_is_dropped_with_one_line_and_counted(system, s3, broker_url):
    port = free_port()
    worker = system.worker("student", DPIQA_METRICS_PORT=str(port))
    system.ready()
    sent = [item for items in GARBAGE.values() for item in items]
    with redis.Redis.from_url(broker_url) as client:
        for item in [*sent, *STRANGE]:
            client.lpush("bulk", item)
        client.hset("unacked", mapping={"a": "nonsense", "b": b"\xff", "c": "[1]"})
        client.zadd("unacked_index", {"a": 1, "b": 1, "c": 1})
        for broadcast in BROADCASTS:
            client.publish("/0.celery.pidbox", broadcast)
        client.set("maintenance", "not a list")
    system.wait(lambda: sum(counts(port).values()) >= len(sent) + len(BROADCASTS) + 1, "dropped messages")
    found = counts(port)
    assert {reason: found.get(("bulk", reason), 0) + found.get(("unknown", reason), 0) for reason in GARBAGE} == {
        reason: len(items) for reason, items in GARBAGE.items()
    }
    assert found["maintenance", "not_a_list"] == 1
    assert sum(n for (queue, _), n in found.items() if queue == "broadcast") == len(BROADCASTS)
    s3.put("one.png", png(0.5))
    system.submit()
    system.wait(lambda: system.value("SELECT count(*) FROM results") == 1, "a score")
    log = worker.command.log.read_text()
    assert worker.alive
    assert log.count("message_dropped") == sum(found.values())
    assert "Traceback" not in log
    assert "os.system" not in log  # nothing of what was sent is repeated
    assert log.count("worker_ready") == 1


def test_a_worker_takes_no_commands_from_the_broker(system, s3, broker_url):
    worker = system.worker("student")
    system.ready()
    app = Celery("other", broker=broker_url, set_as_current=False)
    app.control.broadcast("shutdown")
    app.control.cancel_consumer("bulk")
    app.control.rate_limit("dpiqa.score", "0/s")
    s3.put("one.png", png(0.5))
    system.submit()
    system.wait(lambda: system.value("SELECT count(*) FROM results") == 1, "a score")
    (answer,) = app.control.inspect(timeout=5).ping().values()
    assert answer == {"ok": "pong"}
    assert worker.alive
    assert "Traceback" not in worker.command.log.read_text()


def test_workers_of_a_stage_on_one_host_have_names_of_their_own(system, broker_url):
    for name in ("first", "second"):
        argv, env = worker_command(system.settings, "student")
        system.start(name, argv, env)
    system.ready(2)
    app = Celery("other", broker=broker_url, set_as_current=False)
    names = set()

    def have_answered():
        """Ask again: a worker may be ready before it listens to questions, and a busy one answers late."""
        names.update(app.control.inspect(timeout=5, limit=2).ping() or ())
        return len(names) == 2

    system.wait(have_answered, "two workers that answer")
    assert all(name.startswith("student-") for name in names)
    assert "DuplicateNodenameWarning" not in system.logs()

"""Celery's settings for a broker: those of workers, doorbells and Flower."""

import ssl
from collections.abc import Callable
from typing import Any, ClassVar

from kombu.entity import Exchange
from kombu.entity import Queue as KombuQueue
from kombu.utils.scheduling import sorted_cycle

from dpiqa.broker import CLIENT_OPTIONS
from dpiqa.broker_url import BrokerKind, BrokerUrl
from dpiqa.doorbell import Queue

_ANSWER_SECONDS = 10  #: for SQS and RabbitMQ to answer
#: Seconds. A silent half-open link stalls a worker for 150 s with the defaults, 21 s with these.
TRANSPORT_OPTIONS: dict[str, Any] = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "retry_on_timeout": True,
    "queue_order_strategy": "dpiqa.workers.broker:ServingOrder",
    "priority_steps": [0],  # the queues are the priorities; one Redis list each
    "ack_emulation": False,  # nothing is acknowledged: no `unacked` keys that somebody else could fill
}


class ServingOrder(sorted_cycle):  # type: ignore[misc]  # kombu has no types
    """Makes BRPOP ask the queues in the order of `Queue`: `live` is empty before `bulk` is read."""

    #: Says whether messages of a queue are to be taken now; the worker of this process sets it.
    reads: ClassVar[Callable[[str], bool]] = staticmethod(lambda _: True)
    _ORDER: ClassVar = {queue.value: index for index, queue in enumerate(Queue)}

    def consume(self, n: int) -> list[str]:
        """Return those of the first `n` queue names that are to be read, in serving order."""
        names = filter(type(self).reads, self.items[:n])
        return sorted(names, key=lambda name: (self._ORDER.get(name, len(self._ORDER)), name))


def celery_settings(url: BrokerUrl) -> dict[str, Any]:
    """Return the settings of a Celery app. No password is in `broker_url`, which Celery shows in several places."""
    host, port = url.hosts[0] if url.hosts else ("localhost", None)
    return {
        "broker_user": url.username,
        "broker_password": url.password,
        "task_queues": [_queue(queue.value, url) for queue in Queue],
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_create_missing_queues": True,
        "worker_consumer": "dpiqa.workers.consumer:DoorbellConsumer",
        "worker_prefetch_multiplier": 1,
        "worker_enable_prefetch_count_reduction": False,  # it would set another count after a lost connection
        "worker_disable_prefetch": url.is_redis,  # a message is taken when a thread is free for it, and not before
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_soft_shutdown_timeout": 45,
        "broker_channel_error_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
    } | _SETTINGS_OF[url.kind](url, f"[{host}]" if ":" in host else host, port)


def acknowledges(settings: Any) -> bool:
    """Return whether messages are acknowledged, under these settings of an app."""
    return not all(queue.no_ack for queue in settings.task_queues)


def _redis(url: BrokerUrl, host: str, port: int | None) -> dict[str, Any]:
    options = TRANSPORT_OPTIONS | {name: url.options[name] for name in CLIENT_OPTIONS & url.options.keys()}
    options |= {"shown_address": url.address, "unix_socket_path": url.socket_path}
    if url.kind is BrokerKind.SENTINEL:
        names = ("sentinel_username", "sentinel_password")
        options |= {"sentinels": list(url.hosts), "master_name": url.options["master_name"]}
        options["sentinel_login"] = {name: url.options[name] for name in names if name in url.options}
    return {
        "broker_url": f"{url.kind}://{host}:{port or 0}/{url.database}",
        "broker_use_ssl": url.tls and dict(url.tls),
        "broker_transport_options": options,
    }


def _rabbitmq(url: BrokerUrl, host: str, port: int | None) -> dict[str, Any]:
    tls: dict[str, Any] | None = None
    if url.tls is not None:
        requirement = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
        names = {
            "ssl_ca_certs": "ca_certs",
            "ssl_certfile": "certfile",
            "ssl_keyfile": "keyfile",
            "ssl_ciphers": "ciphers",
        }
        tls = {theirs: url.tls[ours] for ours, theirs in names.items() if ours in url.tls}
        tls["cert_reqs"] = requirement[url.tls["ssl_cert_reqs"]]
        if url.tls["ssl_check_hostname"]:
            tls["server_hostname"] = host.strip("[]")
    return {
        "broker_url": f"amqp://{host}:{port}/",
        "broker_vhost": url.virtual_host,
        "broker_use_ssl": tls,
        "broker_transport_options": {
            "confirm_publish": True,
            # Of a request, such as the declaration of a queue, or the farewell over a dead link.
            "read_timeout": _ANSWER_SECONDS,
            "write_timeout": _ANSWER_SECONDS,
            "shown_address": url.address,
        },
        "broker_heartbeat": 20,  # seconds; two without an answer end a connection
        "task_acks_late": True,  # RabbitMQ then sends a few messages of each queue, and none of `live` waits for others
        # Queues of one connection: RabbitMQ 4 deprecates others that are not durable.
        "control_queue_exclusive": True,
        "event_queue_exclusive": True,
    }


def _sqs(url: BrokerUrl, host: str, port: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"wait_time_seconds": 5, "polling_interval": 0.2, "is_secure": True}
    options |= {**url.options, "shown_address": url.address}
    options["client-config"] = {"connect_timeout": 5, "read_timeout": _ANSWER_SECONDS, "retries": {"max_attempts": 2}}
    return {
        "broker_url": f"sqs://{host}:{port}" if url.hosts else "sqs://",
        "broker_transport_options": options,
        # SQS cannot send one message to many receivers, which both need.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
    }


_SETTINGS_OF = {
    BrokerKind.REDIS: _redis,
    BrokerKind.SENTINEL: _redis,
    BrokerKind.RABBITMQ: _rabbitmq,
    BrokerKind.SQS: _sqs,
}


def _queue(name: str, url: BrokerUrl) -> KombuQueue:
    """Return a queue, bound to nothing: messages are sent to it by its name.

    Of Redis: messages are gone once they are read. The database records what waits, and the feeder rings again, so the
    broker need not keep anything. Retained messages cause crashes: kombu puts them back and acknowledges them over a
    connection that was lost, which ends the worker with an `AttributeError` (docs/decisions/0006). Of SQS, messages are
    acknowledged when a thread takes them, of RabbitMQ when they are worked off: without acknowledgements it would send
    all of them to the first worker.
    """
    exchange = Exchange("")
    arguments = {"x-queue-type": "quorum"} if url.kind is BrokerKind.RABBITMQ else None
    return KombuQueue(name, exchange, routing_key=name, no_ack=url.is_redis, queue_arguments=arguments)

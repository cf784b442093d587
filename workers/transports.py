"""Kombu's transports, adapted to Unix sockets, Sentinels, and messages that nobody can read."""

import re
from queue import Empty
from typing import Any
from urllib.parse import quote

import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection
from kombu.transport import redis as kombu_redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from .messages import MalformedMessage, drop, require_envelope


class RedisChannel(kombu_redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that drops what is not a message, instead of ending the worker."""

    unix_socket_path: str | None = None
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "unix_socket_path")

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.unix_socket_path is not None:
            self.connection_class = redis.UnixDomainSocketConnection
        parameters: dict[str, Any] = super()._connparams(asynchronous)
        if self.unix_socket_path is not None:
            for name in ("host", "port", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"):
                parameters.pop(name, None)
            parameters["path"] = self.unix_socket_path
        return parameters

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)
        client.set_response_callback("BRPOP", _readable)
        return client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except MalformedMessage as error:
            drop(error.queue, error)
        except redis.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            self._drop_other_types()
        raise Empty

    def _handle_message(self, client: Any, response: Any) -> Any:
        """Return what was published: a question of Flower to all workers, say."""
        message = super()._handle_message(client, response)
        if message["type"] in {b"message", b"pmessage"}:
            require_envelope(message["data"])
        return message

    def _receive_one(self, client: Any) -> Any:
        try:
            return super()._receive_one(client)
        except MalformedMessage as error:
            drop("broadcast", error)
            return None

    def _drop_other_types(self) -> None:
        """Delete what somebody stored under the name of a queue, and is not a list."""
        with self.conn_or_acquire() as client:
            for queue in self.active_queues:
                if client.type(queue) not in {b"list", b"none"}:
                    client.delete(queue)
                    drop(queue, MalformedMessage("not_a_list"))


def _readable(reply: Any, **_: Any) -> Any:
    """Return the reply of BRPOP. Raises `MalformedMessage` for one that kombu cannot read."""
    if not reply:
        return None
    queue, item = reply
    try:
        require_envelope(item)
    except MalformedMessage as error:
        raise MalformedMessage(error.reason, queue.decode()) from None
    return queue, item


class RedisTransport(kombu_redis.Transport):  # type: ignore[misc]
    """Redis and Valkey."""

    Channel = RedisChannel


class SentinelChannel(RedisChannel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """A channel to the master that the Sentinels name."""

    sentinels: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    sentinel_login: dict[str, str] = {}  # noqa: RUF012 - kombu sets it per channel
    from_transport_options = (
        *RedisChannel.from_transport_options,
        *kombu_redis.SentinelChannel.from_transport_options,
        "sentinels",
        "sentinel_login",
    )

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        """Return the pool. Kombu takes the Sentinels from other URLs, which it does not keep the password of."""
        parameters = self._connparams(asynchronous)
        for name in ("host", "port"):
            parameters.pop(name, None)
        shared = {name: parameters[name] for name in parameters if name.startswith(("ssl_", "socket_"))}
        login = {name.removeprefix("sentinel_"): value for name, value in self.sentinel_login.items()}
        if "ssl_cert_reqs" in shared:
            shared["ssl"] = True
        shared["retry"] = Retry(NoBackoff(), 0)  # the next Sentinel is asked instead
        manager: Any = Sentinel(self.sentinels, sentinel_kwargs=shared | login, **parameters)  # type: ignore[no-untyped-call]
        if asynchronous:
            self._async_sentinel_manager = manager
        else:
            self._sentinel_manager = manager
        return manager.master_for(self.master_name).connection_pool


class SentinelTransport(RedisTransport):
    """Redis and Valkey with Sentinels."""

    default_port = 26379
    Channel = SentinelChannel


class BrokerConnection(Connection):  # type: ignore[misc]
    """A connection by our transports, shown as the URL in which it was configured."""

    transport_cls: Any = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        match self.transport_cls:  # the class itself, which reaches the connections of a pool, too
            case "redis":
                self.transport_cls = RedisTransport
            case "sentinel":
                self.transport_cls = SentinelTransport
            case "sqs":
                from .sqs import SqsTransport  # noqa: PLC0415 - an extra

                self.transport_cls = SqsTransport

    def info(self) -> dict[str, Any]:
        """Return what Flower and `celery inspect stats` show: no certificates' password, and no login of Sentinels."""
        shown: dict[str, Any] = super().info()
        options = {name: value for name, value in shown["transport_options"].items() if name != "sentinel_login"}
        transport = self.get_transport_cls().driver_type
        return shown | {"transport": transport, "ssl": bool(shown["ssl"]), "transport_options": options}

    def as_uri(self, include_password: bool = False, mask: str = "**", **_options: Any) -> str:
        """Return the broker's URL; with user name and password for Flower, which connects with it to one host."""
        address = str(self.transport_options.get("shown_address") or super().as_uri(include_password, mask))
        if not include_password:
            return address
        scheme, _, rest = address.partition("://")
        host = re.sub(r",[^/]*", "", rest).partition("?")[0]
        login = f"{quote(self.userid or '', safe='')}:{quote(self.password or '', safe='')}@"
        return f"{'sentinel' if scheme == 'sentinels' else scheme}://{login if len(login) > 2 else ''}{host}"


class BrokerAMQP(AMQP):  # type: ignore[misc]  # Celery has no types
    """Celery's messaging over these connections."""

    Connection = BrokerConnection
    BrokerConnection = BrokerConnection


class BrokerApp(Celery):  # type: ignore[misc]
    """A Celery app over these connections. Its broker is that of its settings: `CELERY_BROKER_URL` does not count."""

    def __init__(self, **options: Any) -> None:
        super().__init__("dpiqa", amqp=BrokerAMQP, set_as_current=False, **options)

    def connection(self, url: str | None = None, **options: Any) -> Any:
        """Return a connection."""
        return self.connection_for_write(url, **options)

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """Return a connection to receive messages."""
        return super().connection_for_read(url or self.conf["broker_url"], **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """Return a connection to send messages."""
        return super().connection_for_write(url or self.conf["broker_url"], **options)

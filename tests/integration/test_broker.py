"""Facts about running servers: what is refused, and what is shown of it."""

import pytest
import redis
from support.brokers import RawServer, Sentinels, TlsProxy
from support.certificates import Certificate

from dpiqa.broker import connect, read_broker, require_no_eviction
from dpiqa.broker_url import read_broker_url
from dpiqa.cli.system.doctor import Level, broker
from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.errors import ConfigurationError
from dpiqa.settings import load_settings

PASSWORD = "p@ss/w:rd?%#"
ENCODED = "p%40ss%2Fw%3Ard%3F%25%23"


@pytest.fixture
def start(server_home, request):
    """Give a function that starts a server with lines of configuration."""
    servers = []

    def start(*lines, **answers):
        server = RawServer(server_home / f"{request.node.originalname}-{len(servers)}", *lines)
        servers.append(server)
        server.start(redis.Redis(port=server.port, **answers).ping)
        return server

    yield start
    for server in servers:
        server.stop()


def test_a_cluster_and_a_sentinel_are_refused(start, server_home):
    cluster = start("cluster-enabled yes")
    with pytest.raises(ConfigurationError, match="is a cluster"):
        require_no_eviction(read_broker_url(f"redis://127.0.0.1:{cluster.port}"))
    servers = Sentinels(server_home / "asked", "secret")
    servers.start()
    try:
        port = servers.sentinels[0].port
        with pytest.raises(ConfigurationError, match="is a Sentinel"):
            require_no_eviction(read_broker_url(f"redis://127.0.0.1:{port}"))
        assert read_broker(read_broker_url(servers.url)).product == "Valkey"
        doorbell = load_doorbell(load_settings(broker_url=servers.url))
        doorbell.score(Queue.LIVE, [1])
        assert doorbell.depth(Queue.LIVE) == 1
        with connect(read_broker_url(servers.url)) as client:
            assert client.llen("live") == 1
    finally:
        servers.stop()


@pytest.mark.parametrize("database", [0, 5])
def test_ipv6_a_password_of_odd_characters_and_a_database(start, database):
    server = start("bind ::1", f'requirepass "{PASSWORD}"', host="::1", password=PASSWORD)
    settings = load_settings(broker_url=f"redis://:{ENCODED}@[::1]:{server.port}/{database}")
    doorbell = load_doorbell(settings)
    doorbell.score(Queue.LIVE, [1])
    assert doorbell.depth(Queue.LIVE) == 1
    assert redis.Redis(host="::1", port=server.port, password=PASSWORD, db=database).llen("live") == 1
    finding = broker(settings)
    assert finding.level is Level.OK
    assert f"redis://:***@[::1]:{server.port}/{database}" in finding.message
    assert PASSWORD not in finding.message


def test_a_port_with_tls_and_one_without_are_told_apart(start, server_home):
    server = start("requirepass secret", password="secret")
    certificate = Certificate.make(server_home / "told-apart")
    proxy = TlsProxy(server.port, certificate)
    try:
        with pytest.raises(ConfigurationError, match="speaks TLS on this port"):
            read_broker(read_broker_url(f"redis://:secret@127.0.0.1:{proxy.port}/0"))
        good = f"rediss://:secret@127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificate.authority}"
        assert read_broker(read_broker_url(good)).product == "Valkey"
        with pytest.raises(ConfigurationError, match="certificate of the broker was refused"):
            read_broker(read_broker_url(f"rediss://:secret@127.0.0.1:{proxy.port}/0"))
        assert read_broker(read_broker_url(f"{good.partition('?')[0]}?ssl_cert_reqs=none")).product == "Valkey"
    finally:
        proxy.close()
    with pytest.raises(ConfigurationError, match="does not speak TLS on this port"):
        read_broker(read_broker_url(f"rediss://:secret@127.0.0.1:{server.port}/0"))

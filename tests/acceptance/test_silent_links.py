"""Links that swallow what is sent: TCP acknowledges it, nobody answers, and no connection is closed.

Real processes, one link at a time. Work goes on within a minute of the moment when new connections work again.
"""

import time
from urllib.parse import urlsplit

import pytest
from sqlalchemy.engine import make_url
from support.photos import png
from support.proxy import Proxy

SECONDS = 60  #: from the return of the link to the last of the new images


@pytest.fixture
def proxy():
    proxies = []

    def make(port):
        proxies.append(Proxy(port))
        return proxies[-1]

    yield make
    for one in proxies:
        one.close()


@pytest.fixture(params=["database", "broker", "store", "queue"])
def link(request, proxy, make_system, database_url, broker_url, s3):
    """Give a system of which one link goes through a proxy, and the proxy."""
    match request.param:
        case "database":
            url = make_url(database_url)
            silent = proxy(url.port)
            changed = {"database_url": url.set(port=silent.port).render_as_string(hide_password=False)}
        case "broker":
            port = urlsplit(broker_url).port
            silent = proxy(port)
            changed = {"broker_url": broker_url.replace(f":{port}", f":{silent.port}")}
        case "store":
            silent = proxy(urlsplit(s3.settings["s3_endpoint_url"]).port)
            changed = {"s3_endpoint_url": silent.url}
        case "queue":
            silent = proxy(urlsplit(s3.settings["sqs_endpoint_url"]).port)
            changed = {"sqs_endpoint_url": silent.url}
    return make_system(**{"database_seconds": 2, "max_crashes": 100, **changed}), silent


def test_work_goes_on_soon_after_a_silent_link_is_back(link, s3):
    system, silent = link
    processes = [system.worker("student"), system.worker("teacher"), system.listener()]
    system.ready(2)
    for number in range(60):
        s3.put(f"a{number:03}.png", png(number % 50 / 50))
    system.wait(lambda: system.value("SELECT count(*) FROM scores") >= 5, "5 scores")
    silent.swallow()
    for number in range(20):
        s3.put(f"b{number:03}.png", png(number / 50))
    time.sleep(8)
    silent.restore()
    for number in range(20):
        s3.put(f"c{number:03}.png", png(number / 50))
    system.wait(lambda: system.states() == {"scored": 100}, "100 scored items", SECONDS)
    assert all(process.alive for process in processes)
    assert "Traceback" not in system.logs()

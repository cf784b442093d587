"""The access list that docs/brokers.md names: it suffices, and nothing in it is superfluous."""

import re
from pathlib import Path

import pytest
import redis
from dpiqa.workers.broker import celery_settings
from dpiqa.workers.transports import BrokerApp
from support.brokers import RawServer
from support.photos import png

from dpiqa.broker import read_broker, require_storage
from dpiqa.doorbell import Queue, load_doorbell
from dpiqa.errors import BrokerUnavailable

PASSWORD = "pw-c4n4ry"
PAGE = Path(__file__).parents[2] / "docs" / "brokers.md"


def documented():
    """Return the words of the access list: keys, channels and commands."""
    (line,) = re.findall(r"^ACL SETUSER dpiqa (.+(?:\\\n.+)*)", PAGE.read_text().replace("\\\n", ""), re.MULTILINE)
    return line.split()


@pytest.fixture(scope="module")
def server(server_home):
    server = RawServer(server_home / "rights")
    server.start(redis.Redis(port=server.port).ping)
    yield server
    server.stop()


@pytest.fixture
def admin(server):
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        yield client


def allow(admin, words):
    admin.execute_command(
        "ACL", "SETUSER", "dpiqa", "reset", *[word.replace(">PASSWORD", f">{PASSWORD}") for word in words]
    )


def test_the_documented_rights_suffice_and_none_is_superfluous(make_system, s3, server, admin):
    allow(admin, documented())
    admin.config_resetstat()
    system = make_system(broker_url=f"redis://dpiqa:{PASSWORD}@127.0.0.1:{server.port}/0")
    for number in range(40):
        s3.put(f"{number:04}.png", png(number % 20 / 20))
    system.worker("student")
    system.worker("teacher")
    system.listener()
    system.ready(2)
    system.wait(lambda: system.ended() == 40, "40 ended items")
    app = BrokerApp()
    app.conf.update(celery_settings(system.settings.require_broker_url()))
    assert len(app.control.inspect(timeout=5).ping()) == 2
    assert read_broker(system.settings.require_broker_url()).product == "Valkey"
    require_storage(system.settings.require_broker_url())
    admin.set("maintenance", "not a list")
    system.wait(lambda: "not_a_list" in system.logs(), "dropped key")
    system.stop()
    refused = [entry for entry in admin.acl_log() if entry["username"] == "dpiqa"]
    assert [(entry["reason"], entry["object"]) for entry in refused] == []
    used = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
    granted = {word[1:] for word in documented() if word.startswith("+")}
    ours = {"acl|setuser", "acl|log", "config|resetstat", "info", "set", "flushall"}
    assert used - ours - {"auth", "hello"} <= granted | ours, sorted(used - granted - ours)
    unusual = {"select", "zrem"}  # of another database; of exchanges that nobody has used for an hour
    assert granted - unusual <= used, sorted(granted - used)


@pytest.mark.parametrize("missing", ["+brpop", "+psubscribe", "+llen", "~_kombu.binding*"])
def test_a_worker_that_lacks_a_right_ends_with_one_line(make_system, server, admin, missing):
    allow(admin, [word for word in documented() if word != missing])
    system = make_system(broker_url=f"redis://dpiqa:{PASSWORD}@127.0.0.1:{server.port}/0")
    worker = system.worker("student")
    assert worker.popen.wait(60) == 78
    (line,) = [line for line in system.logs().splitlines() if line.startswith("dpiqa: ")]
    assert "lacks a right" in line
    assert "docs/brokers.md" in line
    assert "Traceback" not in system.logs()
    assert PASSWORD not in system.logs()


def test_without_info_the_policy_is_unknown_and_without_lpush_nothing_is_lost(make_system, server, admin):
    allow(admin, [word for word in documented() if word not in {"+info", "+lpush"}])
    system = make_system(broker_url=f"redis://dpiqa:{PASSWORD}@127.0.0.1:{server.port}/0")
    assert read_broker(system.settings.require_broker_url()).eviction_policy == "?"
    doorbell = load_doorbell(system.settings)
    with pytest.raises(BrokerUnavailable):
        doorbell.score(Queue.LIVE, [1])

"""Redis killed, emptied and full, Postgres crashed and its disk full, S3 away, no teacher: nothing is lost."""

import contextlib
import signal
import subprocess
import time

import psycopg
import pytest
import redis
from support.photos import png

from dpiqa.local.postgres import Postgres
from dpiqa.storage import schema

N = 150


def fill(s3, n=N):
    for number in range(n):
        s3.put(f"{number:04}.png", png(number % 50 / 50))


def is_complete(system, job):
    return system.value("SELECT state FROM jobs WHERE id = :id", id=job.id) == "complete"


def assert_all_scored(system, n=N):
    assert system.states() == {"scored": n}
    assert system.value("SELECT count(*) FROM results WHERE status = 'final'") == n
    assert system.value("SELECT max(errors) FROM items") == 0


def test_redis_killed_flushed_and_full(story, n, valkey_server, broker_url):
    story.keep("listener", "student", "teacher")
    story.upload(n, seconds=12)
    client = redis.Redis.from_url(broker_url)
    faults = ["kill", "flush", "full"] * 2
    story.random.shuffle(faults)
    for fault in faults:
        story.pause(0.5, 2)
        if fault == "kill":
            valkey_server.process.kill()
            story.pause(0, 1)
            valkey_server.start()
        elif fault == "flush":
            client.flushall()
        else:
            client.config_set("maxmemory", 1)  # every write is refused
            story.pause(1, 3)
            client.config_set("maxmemory", 0)
    client.close()
    story.finish()


def test_postgres_crashes(story, n, postgres_server):
    story.keep("listener", "student", "teacher")
    story.upload(n, seconds=10)
    for stop in (signal.SIGQUIT, signal.SIGKILL, signal.SIGQUIT):
        story.pause(0.5, 2.5)
        postgres_server.process.signal(stop)
        postgres_server.process.popen.wait(30)
        story.pause(0, 1.5)
        postgres_server.start()
        story.engine.dispose()
    story.finish()


@pytest.fixture
def small_disk(server_home):
    """Give a folder on a disk of 200 MB."""
    folder = server_home / "small-disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    folder.chmod(0o711)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def test_the_disk_of_postgres_is_full(make_story, n, small_disk, server_home):
    server = Postgres(small_disk / "postgres", server_home / "small.log", options={"min_wal_size": "32MB"})
    server.start()
    try:
        schema.upgrade(server.url())
        story = make_story(database_url=server.url(), oracle_url=server.url())
        story.keep("listener", "student", "teacher")
        story.upload(n, seconds=12)
        for _ in range(2):
            story.pause(0.5, 3)
            ballast = small_disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb") as file:
                while True:
                    file.write(bytes(65536))
            with server.connect("dpiqa") as c, contextlib.suppress(psycopg.Error):
                c.execute("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 500000)")
            story.pause(2, 5)
            ballast.unlink(missing_ok=True)
            if not server.process.alive:  # it ends where it cannot write its log
                server.start()
                story.engine.dispose()
        story.finish()
    finally:
        server.stop()


def test_nothing_is_lost_while_s3_is_unavailable(make_system, s3, s3_proxy):
    system = make_system(s3_endpoint_url=s3_proxy.url)
    fill(s3, 40)
    s3_proxy.down()
    system.listener()
    system.worker("student")
    system.worker("teacher")
    system.wait(lambda: system.value("SELECT count(*) FROM items WHERE detail LIKE '%S3%'") > 0, "postponed items")
    assert system.ended() == 0
    s3_proxy.up = True
    system.wait(lambda: system.ended() == 40, "40 ended items")
    assert_all_scored(system, 40)


def test_a_listing_waits_for_s3(make_system, s3, s3_proxy):
    system = make_system(s3_endpoint_url=s3_proxy.url)
    fill(s3, 10)
    s3_proxy.down()
    system.worker("student")
    system.worker("teacher")
    job = system.submit()
    system.wait(lambda: "listing_postponed" in system.logs(), "postponed listing")
    s3_proxy.up = True
    system.wait(lambda: is_complete(system, job), "complete job")
    assert_all_scored(system, 10)


def test_without_a_teacher_scores_are_provisional_until_it_comes(make_system, s3):
    system = make_system()
    fill(s3, 50)
    system.worker("student")
    job = system.submit()
    wait_for_teacher = "SELECT count(*) FROM items WHERE state = 'queued' AND stage = 'teacher'"
    system.wait(lambda: system.value("SELECT count(*) FROM results") == 50, "50 results")
    waiting = system.value(wait_for_teacher)
    assert waiting > 0
    assert system.value("SELECT count(*) FROM results WHERE status = 'provisional' AND stage = 'student'") == waiting
    assert not is_complete(system, job)
    assert "teacher" in system.report(job).waiting_for
    system.worker("teacher")
    system.wait(lambda: is_complete(system, job), "complete job")
    assert_all_scored(system, 50)
    assert system.value("SELECT count(*) FROM results WHERE stage = 'teacher' AND status = 'final'") == waiting
    assert not system.report(job).waiting_for


def test_a_normal_stop_releases_leases_at_once(make_system, s3, s3_proxy):
    system = make_system(s3_endpoint_url=s3_proxy.url, lease_seconds=300)
    student = system.worker("student")
    system.ready()
    s3_proxy.hold()
    fill(s3, 20)
    system.listener()
    system.wait(lambda: system.states().get("leased", 0) >= 10, "10 leased items")
    started = time.monotonic()
    student.signal(15)
    system.wait(lambda: "leased" not in system.states(), "released leases", 10)
    s3_proxy.release()
    system.wait(lambda: not student.alive, "end of the worker", 15)
    assert time.monotonic() - started < 18
    assert student.popen.returncode == 0
    assert system.value("SELECT max(crashes) FROM items") == 0
    assert system.value("SELECT count(*) FROM workers") == 0


def test_a_worker_outlives_the_connection_that_brought_its_work(make_system, s3, s3_proxy, valkey_server):
    system = make_system(s3_endpoint_url=s3_proxy.url, lease_seconds=60)
    student, teacher = system.worker("student"), system.worker("teacher")
    system.ready(2)
    s3_proxy.hold()
    fill(s3, 40)
    system.listener()
    system.wait(lambda: system.states().get("leased", 0) >= 16, "chunks in hand")
    valkey_server.process.kill()
    valkey_server.start()
    system.wait(lambda: student.command.log.read_text().count("Connected to redis") == 2, "new connection")
    s3_proxy.release()
    system.wait(lambda: system.ended() == 40, "40 ended items")
    assert_all_scored(system, 40)
    assert student.alive
    assert teacher.alive

"""Redis emptied, Postgres killed, S3 unavailable, no teacher: work waits and nothing is lost."""

import time

import redis
from support.photos import png

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


def test_a_job_finishes_though_redis_is_emptied(system, s3, broker_url):
    fill(s3)
    system.worker("student")
    system.worker("teacher")
    system.ready(2)
    job = system.submit()
    with redis.Redis.from_url(broker_url) as client:
        for at in (1, 40, 80):
            system.wait(lambda at=at: system.value("SELECT count(*) FROM scores") >= at, f"{at} scores")
            client.flushall()
    system.wait(lambda: is_complete(system, job), "complete job")
    assert_all_scored(system)


def test_a_job_finishes_though_redis_is_killed(system, s3, valkey_server):
    fill(s3)
    workers = system.worker("student"), system.worker("teacher")
    system.ready(2)
    job = system.submit()
    for at in (1, 40, 80):
        system.wait(lambda at=at: system.value("SELECT count(*) FROM scores") >= at, f"{at} scores")
        valkey_server.process.kill()
        time.sleep(1)
        valkey_server.start()
    system.wait(lambda: is_complete(system, job), "complete job")
    assert_all_scored(system)
    assert all(worker.alive for worker in workers)


def test_a_job_finishes_though_postgres_is_killed(system, s3, postgres_server):
    fill(s3)
    system.worker("student")
    system.worker("teacher")
    system.ready(2)
    job = system.submit()
    for at in (1, 60):
        system.wait(lambda at=at: system.value("SELECT count(*) FROM scores") >= at, f"{at} scores")
        postgres_server.process.kill()
        postgres_server.start()
        system.engine.dispose()
    system.wait(lambda: is_complete(system, job), "complete job")
    assert_all_scored(system)


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


def test_without_a_teacher_scores_are_provisional_until_it_comes(system, s3):
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

"""`kill -9` of every kind of process, and one that sleeps past its lease: each image still has exactly one result."""

import signal
import threading

import pytest
from support.photos import png

N = 500


def fill(s3, n):
    """Upload `n` images whose scores are spread round the cut-off of `smoke`."""
    bodies = [png(level / 50) for level in range(50)]
    for number in range(n):
        s3.put(f"{number:04}.png", bodies[number % 50])


def test_killing_every_kind_of_process_loses_and_doubles_nothing(system, s3):
    uploading = threading.Thread(target=fill, args=(s3, N))
    uploading.start()
    listener, student, teacher = system.listener(), system.worker("student"), system.worker("teacher")
    system.wait(lambda: system.ended() > 20, "20 ended items")
    student.kill()
    system.worker("student", "student2")
    system.wait(lambda: system.value("SELECT count(*) FROM items") > 150, "150 items")
    listener.kill()
    system.listener()
    system.wait(lambda: system.value("SELECT count(*) FROM scores") > 200, "200 scores")
    teacher.kill()
    system.worker("teacher", "teacher2")
    uploading.join()
    system.wait(lambda: system.ended() == N, f"{N} ended items")

    assert system.states() == {"scored": N}
    assert system.value("SELECT count(*) FROM results WHERE status = 'final' AND current") == N
    assert system.value("SELECT count(DISTINCT key) FROM results") == N
    escalated = system.value("SELECT escalated FROM jobs")
    assert 0 < escalated <= N / 2
    assert system.value("SELECT count(*) FROM results WHERE route = 'borderline'") == escalated
    assert system.value("SELECT scored_by_student FROM jobs") == N
    for key, score in system.rows("SELECT key, score FROM results"):
        assert score == pytest.approx(int(key[:4]) % 50 / 50, abs=0.003)


def test_a_worker_that_slept_past_its_lease_writes_nothing(make_system, s3, s3_proxy):
    system = make_system(s3_endpoint_url=s3_proxy.url)
    first = system.worker("student")
    system.ready()
    s3_proxy.hold()
    fill(s3, 20)
    system.listener()
    system.wait(lambda: system.states().get("leased", 0) >= 10, "10 leased items")
    first.signal(signal.SIGSTOP)
    slept = dict(system.rows("SELECT id, attempt FROM items WHERE state = 'leased'"))
    s3_proxy.release()
    system.worker("student", "student2")
    system.worker("teacher")
    system.wait(lambda: system.ended() == 20, "20 ended items")
    question = "SELECT id, attempt, finished_at FROM items ORDER BY id"
    before = system.rows(question)
    first.signal(signal.SIGCONT)
    log = first.command.log
    system.wait(lambda: "stale_writes_refused" in log.read_text() or "leases_lost" in log.read_text(), "refusal")

    assert system.rows(question) == before
    assert system.states() == {"scored": 20}
    assert all(row.attempt > slept[row.id] for row in before if row.id in slept)


def test_an_image_whose_workers_die_three_times_ends_dead_and_the_next_is_scored(make_system, s3, s3_proxy):
    system = make_system(s3_endpoint_url=s3_proxy.url, max_crashes=3)
    s3_proxy.hold()
    s3.put("deadly.png", png(0.1))
    system.listener()
    leases = "SELECT count(*) FROM items WHERE attempt = :attempt AND lease_until > clock_timestamp()"
    for attempt in (1, 2, 3):
        student = system.worker("student", f"student{attempt}")
        system.wait(lambda attempt=attempt: system.value(leases, attempt=attempt) == 1, f"lease {attempt}")
        student.kill()
    s3_proxy.release()
    s3.put("good.png", png(0.9))
    system.worker("student", "student4")
    system.wait(lambda: system.ended() == 2, "2 ended items")
    question = "SELECT key, items.state, reason, crashes FROM items JOIN images ON images.id = image_id"
    ends = {key: end for key, *end in system.rows(question)}
    assert ends == {"deadly.png": ["dead", "worker_crashes", 3], "good.png": ["scored", None, 0]}

"""`kill -9` of every kind of process at random moments, and processes that stop for longer than their lease."""

import contextlib
import signal

import psutil
from support.photos import png


def fill(s3, n):
    """Upload `n` images whose scores are spread round the cut-off of `smoke`."""
    for number in range(n):
        s3.put(f"{number:04}.png", png(number % 50 / 50))


def decode_children(process):
    """Return the decode processes of a worker."""
    children = []
    with contextlib.suppress(psutil.Error):  # what has ended since
        for child in psutil.Process(process.pid).children():
            if "child" in " ".join(child.cmdline()):
                children.append(child)
    return children


def test_kills_of_every_kind_of_process(story, n):
    story.keep("listener", "student", "teacher", "api")
    story.upload(n, seconds=15)
    for _ in range(n // 12):
        story.pause(0.5, 2)
        kept = story.kept[story.random.choice(list(story.kept))]
        if not kept.name.startswith("student") or story.random.random() < 0.5:
            kept.kill()
            continue
        for child in decode_children(kept.process):
            with contextlib.suppress(psutil.Error):
                child.kill()
    story.finish()
    escalated = story.value("SELECT escalated FROM jobs")
    assert 0 < escalated <= n / 2
    assert story.value("SELECT scored_by_student FROM jobs") == n
    assert story.value("SELECT count(*) FROM results WHERE route = 'borderline'") == escalated


def test_a_storm_of_kills_of_decode_processes_rejects_nothing(story, n):
    story.keep("listener", "student", "teacher")
    story.ready(2)
    story.upload(n, seconds=8)
    for _ in range(10):
        story.pause(0.5, 1)
        for child in decode_children(story.kept["student"].process):
            with contextlib.suppress(psutil.Error):
                child.kill()
    story.finish()


def test_workers_that_are_stopped_beyond_their_lease_write_nothing_late(make_story, n):
    story = make_story(lease_seconds=3)
    story.keep("listener", "student", "student-2", "teacher")
    story.upload(n, seconds=10)
    for _ in range(3):
        story.pause(0.5, 2)
        stopped = story.kept[story.random.choice(["student", "student-2", "teacher"])].process
        stopped.signal(signal.SIGSTOP)
        story.pause(5, 7)
        stopped.signal(signal.SIGCONT)
    story.finish()


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

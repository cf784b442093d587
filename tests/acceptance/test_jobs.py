"""Submitted prefixes: listed, resumed, served after live events, never scored twice."""

from support.photos import png


def fill(s3, n, prefix=""):
    body = png(0.2)
    for number in range(n):
        s3.put(f"{prefix}{number:04}.png", body)


def is_complete(system, job):
    return system.value("SELECT state FROM jobs WHERE id = :id", id=job.id) == "complete"


def test_a_second_submission_scores_nothing_twice(system, s3):
    fill(s3, 30)
    system.worker("student")
    system.worker("teacher")
    first = system.submit()
    system.wait(lambda: is_complete(system, first), "complete job")
    scored_at = system.rows("SELECT image_id, scored_at FROM scores ORDER BY image_id")
    second = system.submit()
    system.wait(lambda: is_complete(system, second), "complete second job")
    assert system.rows("SELECT image_id, scored_at FROM scores ORDER BY image_id") == scored_at
    assert system.rows("SELECT state, count(*) FROM items GROUP BY state") == [("scored", 60)]
    assert system.report(second).done == system.report(second).total == 30


def test_live_events_are_served_before_submitted_jobs(make_system, s3):
    system = make_system(rering_seconds=60)
    system.worker("teacher")  # it lists, and does not score
    fill(s3, 300, "bulk/")
    job = system.submit("bulk/")
    rung = "SELECT count(*) FROM items WHERE rung_at IS NOT NULL AND queue = :queue"
    system.wait(lambda: system.value(rung, queue="bulk") == 64, "announced items: eight chunks, as nothing is claimed")
    while s3.messages():  # their own events
        pass
    fill(s3, 8, "live/")
    system.listener()
    system.wait(lambda: system.value(rung, queue="live") == 8, "8 live items")
    system.worker("student")
    system.wait(lambda: is_complete(system, job), "complete job")
    first_done = system.rows("SELECT queue FROM items ORDER BY finished_at LIMIT 40")
    assert [row.queue for row in first_done].count("live") == 8


def test_a_bucket_that_is_missing_fails_the_job_in_one_line(system, s3):
    system.bucket.name, bucket = "no-such-bucket", system.bucket.name
    try:
        job = system.submit()
    finally:
        system.bucket.name = bucket
    system.worker("teacher")
    state = "SELECT state FROM jobs WHERE id = :id"
    system.wait(lambda: system.value(state, id=job.id) == "failed", "failed job")
    error = system.value("SELECT error FROM jobs WHERE id = :id", id=job.id)
    assert "there is no bucket no-such-bucket" in error
    assert "\n" not in error

"""Statements of the release whose last migration is 0005, as its workers, listeners and API send them.

Kept as they were: newer migrations must leave them working. `%(name)s` are psycopg's parameters.
"""

PROFILE = "old@1"
JOB = "00000000-0000-0000-0000-000000000001"

START = f"""
INSERT INTO profiles (id, definition) VALUES ('{PROFILE}', '{{}}');
INSERT INTO scorers (id, card) VALUES ('student:aaaa:w:float32', '{{}}');
INSERT INTO jobs (id, kind, bucket, prefix, profile, state, queue, listed_at)
    VALUES ('{JOB}', 'prefix', 'archive', '', '{PROFILE}', 'running', 'bulk', now());
"""
ADD_IMAGE = """
INSERT INTO images (bucket, key, etag, version_id, size, last_modified, news_at, sequencer, current)
    VALUES ('archive', %(key)s, 'e', NULL, 7, now(), now(), NULL, true) RETURNING id
"""
ADD_ITEM = f"""
WITH new AS (SELECT %(image)s::bigint AS image_id, 'student' AS stage, 'queued' AS state, 'bulk' AS queue)
INSERT INTO items (job_id, image_id, stage, state, queue, reason, route, finished_at)
    SELECT '{JOB}', image_id, stage, state, queue, NULL, NULL, NULL FROM new
    ON CONFLICT (job_id, image_id) DO UPDATE SET
        stage = excluded.stage, state = excluded.state, queue = excluded.queue, reason = NULL, detail = NULL,
        route = excluded.route, finished_at = excluded.finished_at, attempt = items.attempt + 1, errors = 0,
        owner = NULL, rung_at = NULL, not_before = clock_timestamp()
    WHERE excluded.state IN ('queued', 'scored') AND items.state IN ('superseded', 'deleted')
    RETURNING id
"""
RING = """
WITH to_ring AS (
    SELECT i.id, j.profile FROM items i JOIN jobs j ON j.id = i.job_id
    WHERE i.id = ANY (%(ids)s) AND i.state = 'queued' AND i.rung_at IS NULL
    ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED)
UPDATE items SET rung_at = clock_timestamp() FROM to_ring WHERE items.id = to_ring.id RETURNING items.id
"""
CLAIM = """
WITH free AS (
    SELECT i.id, j.profile FROM items i JOIN jobs j ON j.id = i.job_id
    WHERE i.id = ANY (%(ids)s) AND i.state = 'queued' AND i.stage = 'student' AND i.not_before <= clock_timestamp()
    ORDER BY i.id FOR NO KEY UPDATE OF i SKIP LOCKED),
taken AS (
    UPDATE items i SET state = 'leased', attempt = i.attempt + 1, owner = 'w',
        lease_until = clock_timestamp() + make_interval(secs => 60)
    FROM free WHERE i.id = free.id RETURNING i.id, i.image_id, i.attempt)
SELECT t.id, t.image_id, m.bucket, m.key, m.etag FROM taken t JOIN images m ON m.id = t.image_id
    LEFT JOIN scores s ON s.image_id = t.image_id AND s.scorer_id = 'student:aaaa:w:float32'
"""
LOCK_JOB = f"SELECT id, state, scored_by_student, escalated FROM jobs WHERE id = '{JOB}' FOR NO KEY UPDATE"
STORE_SCORE = f"""
INSERT INTO scores (image_id, scorer_id, score, etag, version_id, attempt, job_id)
    VALUES (%(image)s, 'student:aaaa:w:float32', 0.5, 'e', NULL, 1, '{JOB}') ON CONFLICT DO NOTHING
"""
STORE_RESULT = f"""
INSERT INTO results (image_id, profile, score, scorer_id, stage, status, route, student_score, teacher_score,
        bucket, key, etag, current, job_id)
    VALUES (%(image)s, '{PROFILE}', 0.5, 'student:aaaa:w:float32', 'student', 'final', 'clear', 0.5, NULL, 'archive',
        %(key)s, 'e', true, '{JOB}')
    ON CONFLICT (image_id, profile) DO UPDATE SET score = excluded.score, updated_at = clock_timestamp()
"""
END_ITEM = """
UPDATE items SET state = 'scored', reason = NULL, detail = NULL, route = 'clear', lease_until = NULL, rung_at = NULL,
    not_before = clock_timestamp(), finished_at = clock_timestamp() WHERE id = %(id)s
"""
COUNT_ROUTED = f"UPDATE jobs SET scored_by_student = scored_by_student + 1 WHERE id = '{JOB}'"
FOLD = """
WITH old AS (DELETE FROM count_changes WHERE at < clock_timestamp() RETURNING job_id, stage, state, reason, n)
INSERT INTO job_counts (job_id, stage, state, reason, n)
    SELECT job_id, stage, state, reason, sum(n) FROM old GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (job_id, stage, state, reason) DO UPDATE SET n = job_counts.n + excluded.n
"""
READ_COUNTS = f"""
SELECT stage, state, reason, sum(n) FROM (
    SELECT stage, state, reason, n FROM job_counts WHERE job_id = '{JOB}'
    UNION ALL SELECT stage, state, reason, n FROM count_changes WHERE job_id = '{JOB}') k GROUP BY 1, 2, 3
"""
READ_SCORES = f"""
SELECT image_id, score FROM results WHERE profile = '{PROFILE}' AND current AND bucket = 'archive'
    ORDER BY score, image_id LIMIT 10
"""


def score(c, n):
    """One object through the whole of that release: added, announced, claimed, recorded, folded, read."""
    key = f"k{n:09}"
    with c.transaction():
        c.execute("SELECT pg_advisory_xact_lock(7301003, hashtext('archive'))")
        image = c.execute(ADD_IMAGE, {"key": key}).fetchone()[0]
        ids = [row[0] for row in c.execute(ADD_ITEM, {"image": image})]
        c.execute(RING, {"ids": ids})
    with c.transaction():
        claimed = c.execute(CLAIM, {"ids": ids}).fetchall()
    with c.transaction():
        c.execute(LOCK_JOB)
        for row in claimed:
            values = {"id": row[0], "image": row[1], "key": row[3]}
            for statement in (STORE_SCORE, STORE_RESULT, END_ITEM, COUNT_ROUTED):
                c.execute(statement, values)
    with c.transaction():
        c.execute(FOLD)
    c.execute(READ_COUNTS).fetchall()
    c.execute(READ_SCORES).fetchall()

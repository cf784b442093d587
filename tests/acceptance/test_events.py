"""Images dropped into a bucket come back as scores."""

import pytest
from support.photos import jpeg, png

from dpiqa.models.choice import ModelChoice
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.local_run import score_objects


def test_events_become_scores(system, s3):
    for number in range(20):
        s3.put(f"in/{number:02}.png", png(number / 20))
    system.listener()
    system.worker("student")
    system.worker("teacher")
    system.wait(lambda: system.ended() == 20, "20 ended items")
    scores = dict(system.rows("SELECT key, score FROM results WHERE current"))
    assert scores == {f"in/{number:02}.png": pytest.approx(number / 20, abs=0.003) for number in range(20)}
    assert system.states() == {"scored": 20}


def test_the_queue_and_this_process_give_the_same_scores(system, s3):
    for number in range(12):
        s3.put(f"{number:02}.jpg", jpeg(number / 12, (200 + 31 * number, 150), seed=number))
    system.listener()
    system.worker("student")
    system.worker("teacher")
    system.wait(lambda: system.ended() == 12, "12 ended items")
    store = S3Store.from_settings(system.settings)
    refs = [ref for page in store.list(s3.name, "") for ref in page]
    rows = score_objects(store, refs, choice=ModelChoice(model="brightness"), settings=system.settings)
    local = {row.ref.key: row.score for row in rows}
    assert dict(system.rows("SELECT key, score FROM results")) == pytest.approx(local, abs=1e-3)
    assert len(local) == 12

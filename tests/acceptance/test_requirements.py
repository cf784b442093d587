"""A requirement submitted as over HTTP: checked by a real worker without a message, then scored by."""

import pytest
from support.photos import jpeg
from support.promptiqa import write_tiny_promptiqa

from dpiqa.doorbell import Queue
from dpiqa.objects.s3 import S3Store
from dpiqa.pipeline.local_run import score_objects
from dpiqa.requirement import Pair, RequirementRequest
from dpiqa.storage.engine import transaction
from dpiqa.storage.jobs import create_job
from dpiqa.storage.profiles import profile_for
from dpiqa.storage.requirements import add_requirement, read_requirement
from dpiqa.types import Direction, JobKind, RequirementState

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def test_checked_by_the_sweepers_ring_and_scored_by(make_system, tmp_path, s3):
    card = write_tiny_promptiqa(tmp_path / "models", "tiny")
    system = make_system(models_dir=tmp_path / "models")
    for number, level in enumerate(LEVELS):
        s3.put(f"isp/{number}.jpg", jpeg(level, seed=number))
        s3.put(f"photos/{number}.jpg", jpeg(level, seed=10 + number))
    pairs = tuple(Pair(f"s3://{s3.name}/isp/{number}.jpg", level) for number, level in enumerate(LEVELS))
    with transaction(system.engine) as c:
        request = RequirementRequest(name="bright", pairs=pairs, direction=Direction.LOWER, model="tiny", force=True)
        pending = add_requirement(c, request)  # and no message: the broker may have been unavailable
    system.worker("student")
    state = "SELECT state FROM requirements WHERE id = :id"
    system.wait(lambda: system.value(state, id=pending.row_id) != "pending", "checked requirement")
    with transaction(system.engine) as c:
        checked = read_requirement(c, "bright")
        assert (checked.state, checked.error) == (RequirementState.READY, None)
        profile = profile_for(c, "bright")
        create_job(c, kind=JobKind.PREFIX, bucket=s3.name, prefix="photos/", profile=profile, queue=Queue.BULK)
    system.wait(lambda: system.ended() == len(LEVELS), "scored images")
    rows = system.rows("SELECT scorer_id, score, status FROM results")
    assert {(row.scorer_id, row.status) for row in rows} == {(f"{card.scorer_id}:bright@1", "final")}
    assert all(0 <= row.score <= 1 for row in rows)
    assert len(rows) == len(LEVELS)
    (scale,) = {row.card["score_scale"] for row in system.rows("SELECT card FROM scorers")}
    assert "lower is better" in scale
    store = S3Store.from_settings(system.settings)
    refs = [ref for page in store.list(s3.name, "photos/") for ref in page]
    local = score_objects(store, refs, choice=profile.student, settings=system.settings)
    queued = dict(system.rows("SELECT key, score FROM results"))
    assert queued == pytest.approx({row.ref.key: row.score for row in local}, abs=1e-3)

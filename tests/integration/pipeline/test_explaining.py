"""Explanations that people ask for: made by a student's worker from a real object, bounded, and removed in time."""

import pytest
from PIL import Image
from sqlalchemy import text
from support.photos import png

from dpiqa.errors import LimitExceeded, NotFound, StoreUnavailable
from dpiqa.evaluation.explaining import Student, make_explanation
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer
from dpiqa.pipeline.feeder import Feeder
from dpiqa.pipeline.scorers import warm_up
from dpiqa.profiles import Profile
from dpiqa.storage import explanations
from dpiqa.storage.engine import transaction
from dpiqa.types import ExplanationState

ALONE = Profile(name="alone", version=1, student="brightness")


@pytest.fixture
def student(archive):
    """Give the parts of a worker; the images have the levels 0.2 and 0.8, and the right half of the first is bright."""
    archive.add([0.2, 0.8], ALONE)
    half = Image.new("L", (64, 64), 51)
    half.paste(204, (32, 0, 64, 64))
    half.save(archive.folder / "000.png")
    worker = archive.worker()
    refs = [ref for page in archive.store.list("bucket", "") for ref in page]
    with transaction(archive.engine) as c:
        c.execute(text("UPDATE images SET etag = :etag WHERE key = '000.png'"), {"etag": refs[0].etag})
    return Student(archive.store, archive.decoder, archive.settings, worker.scorers, worker.device)


def ask(archive, key="000.png"):
    with transaction(archive.engine) as c:
        return explanations.request_explanation(c, "bucket", key, ALONE.id)


def found(archive, key="000.png"):
    with transaction(archive.engine) as c:
        return explanations.read_explanation(c, "bucket", key, ALONE.id)


def test_the_dark_half_of_a_picture_pulls_its_brightness_down(archive, student):
    asked = ask(archive)
    assert (asked.state, ask(archive).id) == (ExplanationState.PENDING, asked.id)
    make_explanation(archive.engine, asked.id, student)
    made = found(archive)
    assert (made.state, made.error, made.lease_until) == (ExplanationState.READY, None, None)
    assert made.scorer_id.startswith("brightness:")
    assert made.score == pytest.approx(0.5, abs=0.01)
    assert len(made.effect) == 64
    assert all(effect < -0.2 for effect in made.effect[0::8])
    assert all(effect > 0.2 for effect in made.effect[7::8])
    make_explanation(archive.engine, asked.id, student)  # a doubled message changes nothing
    assert found(archive) == made


def test_a_small_picture_is_explained_without_the_mirror_images_around_it(archive, student):
    class Filling:
        def scorer(self, profile):
            fill = BRIGHTNESS.preprocessing.model_copy(update={"enlarge_to": 16})
            return warm_up(BrightnessScorer(BRIGHTNESS.model_copy(update={"preprocessing": fill})), 4)

    picture = Image.open(archive.folder / "000.png").crop((12, 0, 52, 20))
    picture.save(archive.folder / "000.png")
    refs = [ref for page in archive.store.list("bucket", "") for ref in page]
    with transaction(archive.engine) as c:
        c.execute(text("UPDATE images SET etag = :etag WHERE key = '000.png'"), {"etag": refs[0].etag})
    filling = Student(student.store, student.decoder, student.settings, Filling(), student.device)
    make_explanation(archive.engine, ask(archive).id, filling)
    made = found(archive)
    assert ":fill16-" in made.scorer_id
    assert all(effect < -0.2 for effect in made.effect[0::8])
    assert all(effect > 0.2 for effect in made.effect[7::8])


def test_what_cannot_be_explained_says_why_and_may_be_asked_for_again(archive, student):
    asked = ask(archive, "001.png")
    (archive.folder / "001.png").write_bytes(png(0.4))
    make_explanation(archive.engine, asked.id, student)
    failed = found(archive, "001.png")
    assert (failed.state, failed.effect) == (ExplanationState.FAILED, None)
    assert "001.png" in failed.error
    again = ask(archive, "001.png")
    assert (again.id, again.state, again.error) == (asked.id, ExplanationState.PENDING, None)


def test_while_the_store_is_unavailable_it_waits_and_is_announced_again(archive, student):
    class Down:
        def get(self, ref, max_bytes):
            raise StoreUnavailable("no answer")

    asked = ask(archive)
    down = Student(Down(), student.decoder, student.settings, student.scorers, student.device)
    for _ in range(archive.settings.max_crashes + 1):
        make_explanation(archive.engine, asked.id, down)
    waiting = found(archive)
    assert (waiting.state, waiting.crashes, waiting.lease_until) == (ExplanationState.PENDING, 0, None)
    Feeder(archive.engine, archive.doorbell, archive.settings).poll()
    assert archive.doorbell.explanations == [asked.id]
    make_explanation(archive.engine, asked.id, student)
    assert found(archive).state is ExplanationState.READY


def test_it_is_given_up_when_workers_die_over_it(archive, student):
    asked = ask(archive)
    for _ in range(archive.settings.max_crashes + 1):
        with transaction(archive.engine) as c:
            assert explanations.start_explanation(c, asked.id, lease_seconds=-1) is not None
    make_explanation(archive.engine, asked.id, student)
    assert "workers died" in found(archive).error


def test_few_wait_at_once_and_none_is_kept_long(archive, student, monkeypatch):
    monkeypatch.setattr(explanations, "MAX_PENDING", 1)
    ask(archive)
    with pytest.raises(LimitExceeded):
        ask(archive, "001.png")
    monkeypatch.undo()
    with pytest.raises(NotFound):
        ask(archive, "unknown.png")
    with transaction(archive.engine) as c:
        c.execute(text("UPDATE explanations SET created_at = now() - interval '8 days'"))
    Feeder(archive.engine, archive.doorbell, archive.settings).poll()
    assert found(archive) is None

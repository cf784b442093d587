"""Images that are read, decoded and computed once: several profiles or jobs, the same bytes under several keys."""

import hashlib
import threading
from collections import Counter
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.camera_raw import dng
from support.images import encoded, photograph
from support.photos import png

from dpiqa.doorbell import Queue
from dpiqa.errors import ImageRejected
from dpiqa.imaging.measures import measure
from dpiqa.imaging.preprocessing import Preprocessing
from dpiqa.models.brightness import BRIGHTNESS, BrightnessScorer
from dpiqa.profiles import Cutoff, Profile
from dpiqa.storage.engine import transaction
from dpiqa.storage.images import add_images
from dpiqa.storage.job_queries import get_job
from dpiqa.storage.jobs import create_job
from dpiqa.storage.lookups import lookup
from dpiqa.storage.measures import as_measures, request_details
from dpiqa.types import JobKind, Reason, Stage

LEVELS = [0.1, 0.2, 0.3, 0.4]


def card(name, side=64):
    return BRIGHTNESS.model_copy(
        update={"name": name, "sha256": name * 8, "preprocessing": Preprocessing(width=side, height=side)}
    )


CARDS = {name: card(name, side) for name, side in {"first": 64, "second": 64, "small": 32, "judge": 64}.items()}


class Model:
    """A scorer that counts images, and may shift its scores."""

    def __init__(self, name, counts, shift=0.0):
        self.card, self._counts, self._shift = CARDS[name], counts, shift

    def score(self, pixels):
        if pixels.any():  # not the warm-up's blank image
            self._counts[self.card.name] = self._counts.get(self.card.name, 0) + len(pixels)
        return pixels.mean(axis=(1, 2, 3), dtype=np.float64) / 255 + self._shift


def profile(name, student, **more):
    return Profile(name=name, version=1, student=student, **more)


@pytest.fixture
def counted(archive):
    """The archive, with counters of the objects read, the images decoded and the images scored by each model."""
    archive.read, archive.decoded, archive.scored = [], [], {}
    get, decode, measure = archive.store.get, archive.decoder.submit, archive.decoder.submit_measured

    def counting_get(ref, max_bytes):
        archive.read.append(ref.key)
        return get(ref, max_bytes)

    def counting_decode(data, preprocessing):
        archive.decoded.append(preprocessing.width)
        return decode(data, preprocessing)

    def counting_measure(data, preprocessing):
        archive.decoded.append(f"{preprocessing.width} measured")
        return measure(data, preprocessing)

    archive.store.get = counting_get
    archive.decoder = SimpleNamespace(submit=counting_decode, submit_measured=counting_measure, close=lambda: None)
    return archive


def write(archive, images):
    for key, data in images.items():
        (archive.folder / key).write_bytes(data)


def submit(archive, *profiles, keys=None, details=False):
    """A job of these profiles on all objects, or those named; returns it and its waiting items."""
    refs = [ref for page in archive.store.list("bucket", "") for ref in page if keys is None or ref.key in keys]
    with transaction(archive.engine) as c:
        job = create_job(
            c, kind=JobKind.LIST, bucket="bucket", prefix="", profile=profiles, queue=Queue.BULK, keys=["k"]
        )
        if details:
            request_details(c, job.id)
        return job, add_images(c, job, refs)


def work(archive, ids, stage=Stage.STUDENT, shift=0.0):
    worker = archive.worker(stage, load=lambda choice: Model(choice.model, archive.scored, shift))
    assert worker.score(ids) == len(ids)


def report(archive, job):
    with transaction(archive.engine) as c:
        return get_job(c, job.id)


def scores(archive, scorer="first"):
    rows = archive.rows(
        "SELECT m.key, s.score, s.copied_from FROM scores s JOIN images m ON m.id = s.image_id "
        "WHERE s.scorer_id LIKE :scorer ORDER BY m.key",
        scorer=f"{scorer}:%",
    )
    return {row.key: (row.score, row.copied_from) for row in rows}


def files(levels=LEVELS):
    return {f"{number}.png": png(level) for number, level in enumerate(levels)}


def test_two_models_of_one_preprocessing_read_and_decode_an_image_once(counted):
    write(counted, files())
    job, ids = submit(counted, profile("a", "first"), profile("b", "second"))
    assert len(ids) == 8
    work(counted, ids)
    assert sorted(counted.read) == sorted(files())
    assert counted.decoded == [64] * 4
    assert counted.scored == {"first": 4, "second": 4}
    assert report(counted, job).by_profile == {"a@1": {"scored": 4}, "b@1": {"scored": 4}}
    assert report(counted, job).reused == 0
    assert counted.rows("SELECT profile, count(*) FROM results GROUP BY 1 ORDER BY 1") == [("a@1", 4), ("b@1", 4)]


def test_two_preprocessings_are_one_read_and_two_decodings(counted):
    write(counted, files())
    _, ids = submit(counted, profile("a", "first"), profile("b", "small"))
    work(counted, ids)
    assert sorted(counted.read) == sorted(files())
    assert sorted(counted.decoded) == [32] * 4 + [64] * 4


def test_two_profiles_with_one_scorer_compute_once(counted):
    write(counted, files())
    job, ids = submit(counted, profile("a", "first"), profile("b", "first"))
    work(counted, ids)
    assert (len(counted.read), len(counted.decoded), counted.scored) == (4, 4, {"first": 4})
    assert (report(counted, job).done, report(counted, job).reused) == (8, 4)


def test_an_image_that_cannot_be_decoded_is_rejected_under_each_profile(counted):
    write(counted, {"0.png": png(0.5), "1.png": b"no image"})
    job, ids = submit(counted, profile("a", "first"), profile("b", "second"), profile("c", "small"))
    work(counted, ids)
    assert sorted(counted.read) == ["0.png", "1.png"]
    expected = {"scored": 1, "rejected": 1}
    assert report(counted, job).by_profile == {"a@1": expected, "b@1": expected, "c@1": expected}


def test_a_model_that_fails_does_not_fail_the_others(counted):
    class Broken(Model):
        def score(self, pixels):
            if pixels.any():
                raise ValueError("a bug")
            return super().score(pixels)

    write(counted, files())
    job, ids = submit(counted, profile("a", "first"), profile("b", "second"))
    models = {"first": Model("first", counted.scored), "second": Broken("second", counted.scored)}
    counted.worker(load=lambda choice: models[choice.model]).score(ids)
    assert report(counted, job).by_profile == {"a@1": {"scored": 4}, "b@1": {"queued": 4}}
    times = counted.rows("SELECT count(DISTINCT date_trunc('second', not_before)) FROM items WHERE state = 'queued'")
    assert times[0][0] >= 1


def test_siblings_that_wait_for_the_store_come_back_together(counted):
    write(counted, files([0.1]))
    _, ids = submit(counted, profile("a", "first"), profile("b", "second"))

    def down(ref, max_bytes):
        raise ConnectionError("reset")

    counted.store.get = down
    work(counted, ids)
    [(spread,)] = counted.rows("SELECT extract(epoch FROM max(not_before) - min(not_before)) FROM items")
    assert float(spread) < 0.8  # each delay alone is random, from 1 to 2 s; the rest is the time of two transactions


def test_another_profile_with_the_same_scorer_reads_nothing_in_a_worker_that_has_not_loaded_it(counted, monkeypatch):
    monkeypatch.setattr("dpiqa.models.loading.find_card", lambda name, _: CARDS[name])
    write(counted, files())
    work(counted, submit(counted, profile("a", "first"))[1])
    del counted.read[:], counted.decoded[:]
    counted.scored.clear()
    job, ids = submit(counted, profile("b", "first"))
    loaded = []
    worker = counted.worker(load=lambda choice: loaded.append(choice) or Model("first", counted.scored))
    worker.score(ids)
    assert (counted.read, counted.decoded, counted.scored, loaded) == ([], [], {}, [])
    assert (report(counted, job).by_state, report(counted, job).reused) == ({"scored": 4}, 4)


def test_a_second_job_of_the_profile_is_scored_when_it_is_listed(counted):
    write(counted, files())
    work(counted, submit(counted, profile("a", "first"))[1])
    job, ids = submit(counted, profile("a", "first"))
    assert ids == []
    assert (report(counted, job).by_state, report(counted, job).reused) == ({"scored": 4}, 4)


def test_students_and_teachers_scores_are_reused_under_another_profile(counted, monkeypatch):
    monkeypatch.setattr("dpiqa.models.loading.find_card", lambda name, _: CARDS[name])
    policy = {"teacher": "judge", "cutoffs": (Cutoff(at=0.25, margin=0.1),), "max_escalated_share": 1.0}
    write(counted, files())
    teacher_of = "SELECT id FROM items WHERE job_id = :job AND stage = 'teacher' AND state = 'queued' ORDER BY id"
    reports = []
    for name in ("a", "b"):
        job, ids = submit(counted, profile(name, "first", **policy))
        work(counted, ids)
        work(counted, [row.id for row in counted.rows(teacher_of, job=job.id)], Stage.TEACHER)
        reports.append(report(counted, job))
    assert counted.scored == {"first": 4, "judge": 2}
    assert len(counted.read) == 4 + 2
    assert [(r.done, r.escalated, r.reused) for r in reports] == [(4, 2, 0), (4, 2, 4)]


def test_the_teachers_of_all_profiles_are_announced_together(counted):
    policy = {"teacher": "judge", "cutoffs": (Cutoff(at=0.25, margin=0.5),), "max_escalated_share": 1.0}
    write(counted, files())
    _, ids = submit(counted, profile("a", "first", **policy), profile("b", "first", **policy))
    work(counted, ids)
    chunks = [rung for queue, rung in counted.doorbell.rings if queue is Queue.TEACHER]
    image_of = {row.id: row.image_id for row in counted.rows("SELECT id, image_id FROM items")}
    assert sorted(item for rung in chunks for item in rung) == sorted(ids)
    images = [{image_of[item] for item in rung} for rung in chunks]
    assert sum(map(len, images)) == 4  # no image is in two messages


def test_each_profile_of_a_job_has_its_own_budget(counted):
    policy = {"teacher": "judge", "cutoffs": (Cutoff(at=0.25, margin=0.5),)}
    write(counted, files())
    job, ids = submit(
        counted,
        profile("a", "first", max_escalated_share=0.5, **policy),
        profile("b", "first", max_escalated_share=0.25, **policy),
    )
    work(counted, ids)
    assert counted.rows("SELECT scored_by_student, escalated FROM jobs WHERE id = :j", j=job.id) == [(4, 2)]
    assert counted.rows("SELECT profile, scored_by_student, escalated FROM job_profiles") == [("b@1", 4, 1)]
    assert (report(counted, job).scored_by_student, report(counted, job).escalated) == (8, 3)


def test_the_same_bytes_under_other_keys_cost_a_read_only(counted):
    write(counted, files())
    work(counted, submit(counted, profile("a", "first"))[1])
    originals = scores(counted)
    write(counted, {f"copy-{key}": data for key, data in files().items()})
    del counted.read[:], counted.decoded[:]
    counted.scored.clear()
    job, ids = submit(counted, profile("a", "first"), keys={f"copy-{key}" for key in files()})
    work(counted, ids, shift=0.01)
    assert (sorted(counted.read), counted.decoded, counted.scored) == (sorted(f"copy-{k}" for k in files()), [], {})
    everything = scores(counted)
    assert {key: everything[f"copy-{key}"][0] for key in files()} == {
        key: score for key, (score, _) in originals.items()
    }
    assert all(everything[f"copy-{key}"][1] is not None for key in files())
    assert report(counted, job).reused == 4
    with transaction(counted.engine) as c:
        [stored] = lookup(c, "bucket", "copy-0.png").scores
    assert stored.copied_from == "s3://bucket/0.png"
    assert stored.content_hash == hashlib.sha256(files()["0.png"]).hexdigest()


def test_the_same_bytes_in_one_chunk_are_scored_once(counted):
    write(counted, {f"{number}.png": png(0.5) for number in range(6)} | {"other.png": png(0.9)})
    job, ids = submit(counted, profile("a", "first"))
    work(counted, ids)
    assert (len(counted.read), len(counted.decoded), counted.scored) == (7, 2, {"first": 2})
    same = [scores(counted)[f"{number}.png"] for number in range(6)]
    assert len({score for score, _ in same}) == 1
    assert sorted(copied is None for _, copied in same) == [False] * 5 + [True]
    assert report(counted, job).reused == 5


def test_bytes_that_were_rejected_are_decoded_once_in_a_chunk(counted):
    write(counted, {f"{number}.png": b"no image" for number in range(5)})
    job, ids = submit(counted, profile("a", "first"))
    work(counted, ids)
    assert len(counted.decoded) == 1
    assert report(counted, job).by_state == {"rejected": 5}


def test_bytes_are_not_compared_where_that_is_switched_off(counted):
    counted.settings = counted.settings.model_copy(update={"reuse_bytes": False})
    write(counted, {"0.png": png(0.5), "1.png": png(0.5)})
    _, ids = submit(counted, profile("a", "first"))
    work(counted, ids)
    assert counted.scored == {"first": 2}
    assert counted.rows("SELECT DISTINCT content_hash, copied_from FROM scores") == [(None, None)]


def test_two_workers_that_score_the_same_bytes_at_once_store_one_score(counted):
    """The networks answer differently by a rounding error: whichever is recorded first counts for both keys."""
    write(counted, {f"{side}{number}.png": png(level) for side in "xy" for number, level in enumerate(LEVELS)})
    _, ids = submit(counted, profile("a", "first"))
    halves = ids[:4], ids[4:][::-1]
    met, begun = threading.Condition(), Counter({0.0: 0, 1e-9: 0})

    class Meeting(Model):
        def score(self, pixels):  # ends when the other one has begun as many: a busy machine makes smaller batches
            with met:
                begun[self._shift] += len(pixels) if pixels.any() else 0
                met.notify_all()
                n_begun = begun[self._shift]
                assert met.wait_for(lambda: min(begun.values()) >= n_begun, timeout=60)
                return super().score(pixels)

    workers = [counted.worker(load=lambda choice, s=s: Meeting("first", counted.scored, s)) for s in (0.0, 1e-9)]
    threads = [counted.in_thread(worker.score, half) for worker, half in zip(workers, halves, strict=True)]
    for thread in threads:
        thread.join(90)
    stored = scores(counted)
    assert counted.scored == {"first": 8}
    for number in range(4):
        (x, x_from), (y, y_from) = stored[f"x{number}.png"], stored[f"y{number}.png"]
        assert x == y
        assert (x_from is None) != (y_from is None)
    assert counted.rows("SELECT DISTINCT r.score = s.score FROM results r JOIN scores s USING (image_id)") == [(True,)]
    assert counted.rows("SELECT DISTINCT state FROM items") == [("scored",)]


def test_a_model_that_is_not_installed_has_no_card_until_it_is_loaded(archive):
    archive.add([0.5], profile=profile("a", "unknown"))
    worker = archive.worker(load=lambda choice: BrightnessScorer(BRIGHTNESS))
    assert worker.scorers.card("a@1") is None
    worker.scorers.scorer("a@1")
    assert worker.scorers.card("a@1") == BRIGHTNESS


def test_the_preview_of_a_raw_file_is_the_score_of_a_scorer_of_its_own(counted):
    counted.settings = counted.settings.model_copy(update={"raw_previews": True})
    picture = photograph(120, 80)
    write(counted, {"a.dng": dng(picture), "b.dng": dng(picture), "c.jpg": encoded(picture, "JPEG", quality=95)})
    _, ids = submit(counted, profile("a", "first"))
    work(counted, ids)
    full, version = CARDS["first"].scorer_id, CARDS["first"].preprocessing.version
    preview = full.replace(version, f"{version}+preview")
    rows = counted.rows("SELECT key, scorer_id, score FROM results ORDER BY key")
    assert [(row.key, row.scorer_id) for row in rows] == [("a.dng", preview), ("b.dng", preview), ("c.jpg", full)]
    assert rows[0].score == rows[1].score == pytest.approx(rows[2].score, abs=0.01)
    assert counted.scored == {"first": 2}  # the second DNG has the bytes of the first
    (stored,) = counted.rows("SELECT card FROM scorers WHERE id = :id", id=preview)
    assert stored.card["preprocessing"]["rendition"] == "preview"

    again, ids = submit(counted, profile("b", "first"))  # another profile of the same scorer: nothing is computed
    work(counted, ids)
    assert counted.scored == {"first": 2}
    assert (report(counted, again).by_state, report(counted, again).reused) == ({"scored": 3}, 3)


submit_with_details = partial(submit, details=True)


def measured(archive):
    """The stored measures of each key."""
    rows = archive.rows("SELECT m.key, d.* FROM measures d JOIN images m ON m.id = d.image_id ORDER BY m.key")
    return {row.key: as_measures(row) for row in rows}


def test_a_job_with_details_measures_the_picture_that_it_decodes(counted):
    photo = photograph()
    write(counted, {"0.png": encoded(photo, "PNG"), "1.png": png(0.2, (6, 6)), "2.png": b"no image"})
    job, ids = submit_with_details(counted, profile("a", "first"), profile("b", "first"))
    work(counted, ids)
    assert (sorted(counted.read), counted.decoded) == (["0.png", "1.png", "2.png"], ["64 measured"] * 3)
    assert report(counted, job).by_state == {"scored": 4, "rejected": 2}
    stored = measured(counted)
    assert list(stored) == ["0.png", "1.png"]
    assert stored["0.png"].as_row() == pytest.approx(measure(photo).as_row(), abs=0.0001)
    assert (stored["1.png"].clipped_dark, stored["1.png"].as_row()["noise"]) == (0.0, None)
    with transaction(counted.engine) as c:
        assert [row.measures for row in lookup(c, "bucket", "0.png").results] == [stored["0.png"]] * 2


def test_the_same_bytes_keep_their_measures_under_another_key(counted):
    write(counted, {"0.png": png(0.2), "1.png": png(0.2)})
    work(counted, submit_with_details(counted, profile("a", "first"))[1])
    write(counted, {"2.png": png(0.2)})
    work(counted, submit_with_details(counted, profile("a", "first"), keys=["2.png"])[1])
    assert (counted.decoded, counted.scored) == (["64 measured"], {"first": 1})
    assert len(set(measured(counted).values())) == 1
    assert sorted(measured(counted)) == ["0.png", "1.png", "2.png"]


def test_images_whose_score_is_known_are_read_once_more_to_be_measured(counted):
    write(counted, files())
    work(counted, submit(counted, profile("a", "first"))[1])
    assert measured(counted) == {}
    job, ids = submit_with_details(counted, profile("a", "first"))
    work(counted, ids)
    assert (len(counted.read), counted.decoded) == (8, [64] * 4 + ["64 measured"] * 4)
    assert counted.scored == {"first": 4}
    assert (report(counted, job).reused, sorted(measured(counted))) == (4, sorted(files()))
    work(counted, submit_with_details(counted, profile("a", "first"))[1])
    assert len(counted.read) == 8


def test_a_score_in_full_is_not_taken_for_one_at_a_reduced_scale(counted):
    write(counted, {"0.jpg": encoded(Image.new("RGB", (2048, 2048), (90, 120, 60)), "JPEG")})
    work(counted, submit(counted, profile("a", "first"))[1])
    counted.settings = counted.settings.model_copy(update={"reduced_jpegs": True})
    work(counted, submit(counted, profile("a", "first"))[1])
    assert (len(counted.read), counted.scored) == (1, {"first": 1})  # what has a score keeps it
    work(counted, submit_with_details(counted, profile("a", "first"))[1])
    assert counted.scored == {"first": 2}
    full = CARDS["first"].scorer_id
    version = CARDS["first"].preprocessing.version
    scored_by = {row.scorer_id for row in counted.rows("SELECT scorer_id FROM scores")}
    assert scored_by == {full, full.replace(version, f"{version}+reduced")}
    assert measured(counted)["0.jpg"].width == 256  # at an eighth


def test_a_known_score_stays_where_the_picture_cannot_be_measured(counted):
    write(counted, {"0.png": png(0.2)})
    work(counted, submit(counted, profile("a", "first"))[1])

    def refuse(*_):
        refused = Future()
        refused.set_exception(ImageRejected(Reason.DECODE_TIMEOUT, "too slow today"))
        return refused

    counted.decoder.submit_measured = refuse
    job, ids = submit_with_details(counted, profile("a", "first"))
    work(counted, ids)
    assert (report(counted, job).by_state, measured(counted)) == ({"scored": 1}, {})


def test_a_chunk_of_two_jobs_stores_measures_for_the_one_that_asks(counted):
    write(counted, files())
    _, without = submit(counted, profile("a", "first"), keys=["0.png", "1.png"])
    _, wanted = submit_with_details(counted, profile("a", "first"), keys=["2.png", "3.png"])
    work(counted, [*without, *wanted])
    assert sorted(measured(counted)) == ["2.png", "3.png"]

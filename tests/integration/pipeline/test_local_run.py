import pytest
from support.camera_raw import dng
from support.folder_store import FolderStore
from support.images import encoded, photograph
from support.photos import png

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.models.choice import ModelChoice
from dpiqa.pipeline.local_run import score_objects
from dpiqa.profiles import load_profile
from dpiqa.settings import load_settings
from dpiqa.types import ImageRef, ItemState, Reason, Route, Stage


@pytest.fixture
def settings():
    return load_settings(decode_processes=1, fetch_threads=2)


def run(folder, settings, **which):
    store = FolderStore(folder)
    refs = [ref for page in store.list("folder", "") for ref in page]
    return {row.ref.key: row for row in score_objects(store, refs, settings=settings, **which)}


def test_each_image_gets_its_score_and_bad_ones_their_reason(tmp_path, settings):
    for level in range(0, 100, 10):
        (tmp_path / f"{level:03}.png").write_bytes(png(level / 100))
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "cut.png").write_bytes(png(0.5, (200, 200))[:-30])
    (tmp_path / "empty.png").write_bytes(b"")
    rows = run(tmp_path, settings, choice=ModelChoice(model="brightness"))
    for level in range(0, 100, 10):
        row = rows[f"{level:03}.png"]
        assert (row.state, row.model, row.reason) == (ItemState.SCORED, "brightness", None)
        assert row.score == pytest.approx(level / 100, abs=0.003)
    reasons = {name: (rows[name].state, rows[name].reason) for name in ("bad.png", "cut.png", "empty.png")}
    assert reasons == {
        "bad.png": (ItemState.REJECTED, Reason.NOT_AN_IMAGE),
        "cut.png": (ItemState.REJECTED, Reason.TRUNCATED),
        "empty.png": (ItemState.REJECTED, Reason.EMPTY),
    }


def test_under_a_profile_the_borderline_go_to_the_teacher_within_the_budget(tmp_path, settings):
    for number in range(8):
        (tmp_path / f"clear{number}.png").write_bytes(png(0.1))
    for number in range(8):
        (tmp_path / f"near{number}.png").write_bytes(png(0.5 + number / 100))
    rows = run(tmp_path, settings, profile=load_profile("smoke"))
    assert {rows[f"clear{n}.png"].route for n in range(8)} == {Route.CLEAR}
    assert all(rows[f"near{n}.png"].stage is Stage.TEACHER for n in range(8))
    assert all(row.score is not None for row in rows.values())


def test_an_object_that_vanished_is_a_row_not_an_error(tmp_path, settings):
    (tmp_path / "here.png").write_bytes(png(0.5))
    refs = [ImageRef(bucket="folder", key=key, etag="") for key in ("here.png", "gone.png")]
    present, gone = score_objects(
        FolderStore(tmp_path), refs, choice=ModelChoice(model="brightness"), settings=settings
    )
    assert present.state is ItemState.SCORED
    assert present.ref.etag
    assert (gone.state, gone.reason) == (ItemState.DELETED, Reason.OBJECT_DELETED)


def test_a_question_that_makes_no_sense_is_refused(tmp_path, settings):
    with pytest.raises(InvalidRequest):
        list(score_objects(FolderStore(tmp_path), [], settings=settings))
    with pytest.raises(NotFound, match="no-such-model"):
        list(score_objects(FolderStore(tmp_path), [], choice=ModelChoice(model="no-such-model"), settings=settings))


def test_a_setting_has_large_jpegs_scored_at_a_reduced_scale_by_a_scorer_of_its_own(tmp_path):
    picture = photograph(2064, 2048)
    (tmp_path / "large.jpg").write_bytes(encoded(picture, "JPEG", quality=95))
    (tmp_path / "large.png").write_bytes(encoded(picture, "PNG", compress_level=1))
    (tmp_path / "smaller.jpg").write_bytes(encoded(picture.crop((0, 0, 2064, 2047)), "JPEG", quality=95))
    scored_by = {"choice": ModelChoice(model="brightness")}
    whole = run(tmp_path, load_settings(decode_processes=1), **scored_by)
    reduced = run(tmp_path, load_settings(decode_processes=1, reduced_jpegs=True), **scored_by)
    changed = {name for name, row in whole.items() if row.scorer_id != reduced[name].scorer_id}
    assert changed == {"large.jpg"}
    assert reduced["large.jpg"].scorer_id.split(":")[2].endswith("+reduced")
    for name, row in whole.items():
        assert reduced[name].score == pytest.approx(row.score, abs=0.003)


def test_previews_and_panoramas_are_scored_by_scorers_of_their_own(tmp_path):
    picture = photograph(480, 320)
    (tmp_path / "a.dng").write_bytes(dng(picture))
    (tmp_path / "b.jpg").write_bytes(encoded(picture, "JPEG", quality=95))
    (tmp_path / "c.png").write_bytes(encoded(photograph(96, 64), "PNG"))
    limits = {"max_image_pixels": 480 * 320 - 1}
    scored_by = {"choice": ModelChoice(model="brightness")}
    rows = run(tmp_path, load_settings(decode_processes=1, **limits), **scored_by)
    assert {name: row.reason for name, row in rows.items()} == {
        "a.dng": Reason.UNSUPPORTED_FORMAT,
        "b.jpg": Reason.TOO_MANY_PIXELS,
        "c.png": None,
    }
    more = load_settings(decode_processes=1, raw_previews=True, max_image_pixels=96 * 64, max_panorama_pixels=10**6)
    rows = run(tmp_path, more, **scored_by)
    assert rows["a.dng"].reason is Reason.TOO_MANY_PIXELS  # limits hold for previews
    assert rows["b.jpg"].scorer_id.split(":")[2].endswith("+reduced")
    assert "+" not in rows["c.png"].scorer_id.split(":")[2]
    more = load_settings(decode_processes=1, raw_previews=True)
    rows = run(tmp_path, more, **scored_by)
    assert rows["a.dng"].scorer_id.split(":")[2].endswith("+preview")
    assert rows["a.dng"].score == pytest.approx(rows["b.jpg"].score, abs=0.01)

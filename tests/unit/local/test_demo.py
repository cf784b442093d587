import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dpiqa.errors import InvalidRequest
from dpiqa.local import demo_view as view
from dpiqa.local.demo_photos import KINDS, ORIGINAL, parse_key, plan
from dpiqa.local.supervisor import Unit, UnitState
from dpiqa.profiles import load_profile


def text_of(*tables):
    console = Console(file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def row(key, score, **values):
    fields = {"stage": "student", "student_score": score, "teacher_score": None, "route": "clear"}
    return {"key": key, "score": score, **fields, **values}


def save_photograph(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (60, 90, 3), np.uint8)).save(path)


def test_the_wheels_hold_enough_photographs_for_the_demo():
    pytest.importorskip("skimage")
    uploads_plan = plan(None)
    assert uploads_plan.total >= 40
    assert len(uploads_plan.photographs) >= 12
    for _, path in uploads_plan.photographs:
        with Image.open(path) as image:
            assert min(image.size) >= 300


def test_each_photograph_gets_copies_of_every_strength(tmp_path):
    save_photograph(tmp_path / "sea" / "a.png")
    save_photograph(tmp_path / "b.JPG")
    uploads_plan = plan(tmp_path)
    uploads = list(uploads_plan.uploads())
    assert len(uploads) == uploads_plan.total == 2 * (1 + 5 * 5)
    assert len({upload.key for upload in uploads}) == uploads_plan.total
    assert {parse_key(upload.key)[2] for upload in uploads} == {0, 1, 2, 3, 4, 5}
    assert {parse_key(upload.key)[0] for upload in uploads} == {"sea/a", "b"}
    assert (tmp_path / "b.JPG").read_bytes() in [upload.data for upload in uploads]
    for upload in uploads:
        Image.open(io.BytesIO(upload.data)).load()
    assert uploads == list(uploads_plan.uploads())  # the same every time: nothing is scored twice


def test_a_file_that_is_not_an_image_is_uploaded_for_the_system_to_judge(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    assert [upload.data for upload in plan(tmp_path).uploads()] == [b"not an image"]


def test_many_photographs_are_uploaded_as_they_are(tmp_path):
    for number in range(31):
        save_photograph(tmp_path / f"{number}.png", number)
    uploads = list(plan(tmp_path).uploads())
    assert len(uploads) == 31
    assert "7.png" in {upload.key for upload in uploads}


def test_photographs_of_one_name_do_not_overwrite_each_other(tmp_path):
    save_photograph(tmp_path / "a.png")
    save_photograph(tmp_path / "a.jpg")
    assert {upload.key for upload in plan(tmp_path).uploads()} == {"a.png", "a.jpg"}


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="holds no photographs"):
        plan(tmp_path)
    with pytest.raises(InvalidRequest, match="is not a folder"):
        plan(tmp_path / "absent")


def test_parse_key():
    assert parse_key("a/b/gaussian_blur-3.jpg") == ("a/b", "gaussian_blur", 3)
    assert parse_key("a/b/original.png") == ("a/b", ORIGINAL, 0)
    assert parse_key("somewhere/2024-05.jpg")[1:] == (ORIGINAL, 0)
    assert parse_key("plain.jpg") == ("plain.jpg", ORIGINAL, 0)


def test_why_names_the_nearest_cut_off():
    profile = load_profile("with-teacher")
    assert view.why(0.36, profile) == "within 0.05 of the cut-off 0.35"
    assert view.why(0.64, profile) == "within 0.05 of the cut-off 0.6"


def test_tables_tell_best_worst_and_escalated():
    rows = [row(f"p{n}/original.png", n / 10) for n in range(15)]
    rows[4] |= {"stage": "teacher", "teacher_score": 0.5, "student_score": 0.33, "route": "borderline"}
    worst, best = view.extremes(rows)
    assert "p0/original.png" in text_of(worst)
    assert "p8/original.png" not in text_of(worst)
    assert "p14/original.png" in text_of(best)
    text = text_of(view.escalated(rows, load_profile("with-teacher")))
    assert "1 of 15" in text
    assert "p4/original.png" in text
    assert "cut-off 0.35" in text
    assert view.routes(rows) == "borderline 1, clear 14"


def copies(photograph, kind, *scores):
    """An original with five copies."""
    names = ["original.png", *(f"{kind}-{strength}.jpg" for strength in range(1, 6))]
    return [row(f"{photograph}/{name}", score) for name, score in zip(names, scores, strict=True)]


def test_originals_head_the_best_although_a_copy_may_score_higher():
    rows = [
        *copies("sea", "jpeg", 0.5, 0.6, 0.7, 0.4, 0.3, 0.2),
        *copies("hill", "jpeg", 0.65, 0.6, 0.5, 0.4, 0.3, 0.1),
    ]
    worst, best = view.extremes(sorted(rows, key=lambda one: one["score"]))
    assert "hill/jpeg-5.jpg" in text_of(worst)
    lines = [line.split() for line in text_of(best).splitlines() if "/" in line]
    assert [(line[0], " ".join(line[-3:])) for line in lines] == [
        ("hill/original.png", "0 of 5"),
        ("sea/original.png", "2 of 5"),
    ]


def test_means_by_strength_compare_the_same_photographs():
    rows = [
        *copies("p", KINDS[0], 0.95, 0.9, 0.8, 0.7, 0.6, 0.5),
        *copies("q", KINDS[0], 0.85, 0.7, 0.6, 0.5, 0.4, 0.3),
        row(f"incomplete/{KINDS[0]}-1.jpg", 0.1),
    ]
    (line,) = [line.split() for line in text_of(view.by_strength(rows)).splitlines() if "gaussian blur" in line]
    assert line == ["gaussian", "blur", "2", "0.900", "0.800", "0.700", "0.600", "0.500", "0.400", "yes"]
    assert "misjudge" not in text_of(view.by_strength(rows))
    assert view.by_strength([row("mine.jpg", 0.5)]) is None


@pytest.mark.parametrize(
    ("means", "verdict"),
    [
        ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], "yes"),
        ([0.6, 0.5, 0.4, 0.3, 0.2, 0.25], "in all, but not at 5"),
        ([0.4, 0.38, 0.43, 0.41, 0.47, 0.47], "no"),
    ],
)
def test_the_table_says_where_means_do_not_fall(means, verdict):
    assert view.falls(means) == verdict
    text = " ".join(text_of(view.by_strength(copies("p", "jpeg", *means))).split())
    assert verdict in text
    assert ("models misjudge that step" in text) == (verdict != "yes")


def test_keys_cannot_colour_or_steer_the_terminal():
    text = text_of(*view.extremes([row("\x1b[31m[red]x[/red]", 0.5)]))
    assert "\x1b" not in text
    assert "[red]" in text


def test_progress_names_the_processes_that_are_starting():
    unit = Unit("teacher-worker", lambda: None, lambda _: True, state=UnitState.STARTING)
    job = {
        "done": 3, "rate_per_second": 1.5, "eta_seconds": 4.0, "counts": {"scored": 3, "queued": 6},
        "open_by_stage": {"teacher": 6}, "waiting_for": "teacher: 6 items wait for a teacher worker",
    }  # fmt: skip
    line = view.line([unit], 9, 9, job)
    for words in (
        "starting: teacher-worker",
        "uploaded 9/9",
        "scored 3/9",
        "1.5 images/s, 4 s left",
        "6 for the teacher",
    ):
        assert words in line
    assert "teacher-worker" in text_of(view.progress([unit], 9, 9, job))
    assert "no images yet" in text_of(view.progress([unit], 0, 9, None))

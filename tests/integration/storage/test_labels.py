"""Labels, samples, figures of cut-offs, comparisons and saved profiles, in a real ledger."""

import pytest
from support.ledger import ALONE, BOTH, STUDENT, TEACHER, Ledger, ref
from support.scored import score_all

from dpiqa.access import Grants
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.profiles import Cutoff, Profile, load_profile
from dpiqa.storage import samples
from dpiqa.storage.comparisons import Options, compare_models, compare_profiles
from dpiqa.storage.cutoffs import report_cutoff
from dpiqa.storage.labels import Draw, NewLabel, list_labels, read_verdicts, save_labels
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.rollups import fold_results
from dpiqa.storage.samples import sample_scores
from dpiqa.storage.saved_profiles import find_named_profile, save_profile
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.types import Stage, Verdict

OTHER = Profile(name="other", version=1, student="teacher")
VIEW = ScoreFilter(profile=ALONE.id, bucket="photos")


def scored(ledger, scores, profile=ALONE, card=STUDENT, **where):
    return score_all(ledger, {f"{n:04}.jpg": score for n, score in enumerate(scores)}, profile, card, **where)


def label(ledger, verdicts, draw=None, **more):
    new = [NewLabel(bucket="photos", key=key, verdict=verdict) for key, verdict in verdicts.items()]
    return ledger.do(save_labels, "default", new, draw=draw, **more)


def test_labels_replace_each_other_and_can_be_removed(ledger):
    scored(ledger, [0.1, 0.5, 0.9])
    label(ledger, {"0000.jpg": Verdict.REJECT, "0001.jpg": Verdict.REJECT})
    label(ledger, {"0001.jpg": Verdict.ACCEPT, "0000.jpg": None}, Draw.of(VIEW))
    (only,) = ledger.do(list_labels, "default").items
    assert (only.key, only.verdict, only.draw, only.labelled_by) == (
        "0001.jpg",
        Verdict.ACCEPT,
        Draw(profile=ALONE.id, bucket="photos"),
        "local",
    )
    assert ledger.do(read_verdicts, "default", [only.image_id]) == {only.image_id: Verdict.ACCEPT}
    assert ledger.do(list_labels, "another").items == []
    with pytest.raises(NotFound, match=r"s3://photos/none\.jpg is not known"):
        label(ledger, {"0002.jpg": Verdict.REJECT, "none.jpg": Verdict.REJECT})
    assert len(ledger.do(list_labels, "default").items) == 1  # all of them or none


def test_labels_stay_within_the_grants(ledger):
    scored(ledger, [0.1, 0.5])
    score_all(ledger, {"ours/1.jpg": 0.2}, ALONE, STUDENT)
    ours = Grants.of(["s3://photos/ours/"])
    label(ledger, {"0000.jpg": Verdict.REJECT, "ours/1.jpg": Verdict.REJECT})
    assert [row.key for row in ledger.do(list_labels, "default", grants=ours).items] == ["ours/1.jpg"]
    with pytest.raises(NotFound):
        label(ledger, {"0001.jpg": Verdict.REJECT}, grants=ours)


@pytest.mark.parametrize(
    ("draw", "covers"),
    [
        ({}, True),
        ({"bucket": "photos", "prefix": "2024/"}, True),
        ({"bucket": "photos", "prefix": "2024/05/05/"}, False),
        ({"bucket": "other"}, False),
        ({"min": 0.1, "max": 0.5}, True),
        ({"min": 0.3}, False),
        ({"min": 0.1, "profile": "b@1"}, False),  # its range is another profile's
        ({"profile": "b@1"}, True),
        ({"job": "1"}, False),
    ],
)
def test_a_draw_covers_what_lies_within_it(draw, covers):
    view = Draw(profile="a@1", bucket="photos", prefix="2024/05/", min=0.2, max=0.5)
    assert Draw(**{"profile": "a@1", **draw}).covers(view) is covers


def test_figures_of_a_cutoff_follow_the_labels_that_are_a_random_sample(ledger):
    scored(ledger, [n / 100 for n in range(100)])
    few = {f"{n:04}.jpg": Verdict.REJECT for n in range(10)}
    label(ledger, few)
    report = ledger.do(report_cutoff, VIEW, "default", cutoff=0.25)
    assert (report.n, report.n_rejected, report.share_rejected) == (100, 25, 0.25)
    assert (report.labels.n, report.labels.at, report.labels.curve) == (10, None, [])
    assert sum(bar.n for bar in report.histogram) == 100
    label(ledger, {f"{n:04}.jpg": Verdict.REJECT if n < 20 else Verdict.ACCEPT for n in range(10, 40)})
    chosen = ledger.do(report_cutoff, VIEW, "default", cutoff=0.25).labels
    assert (chosen.is_random, chosen.n_used, chosen.at.precision.value, chosen.at.recall.value) == (False, 40, 0.8, 1)
    assert chosen.for_precision.cutoff == pytest.approx(0.215)  # 20 of 22
    drawn = {f"{n:04}.jpg": Verdict.REJECT if n < 24 else Verdict.ACCEPT for n in range(0, 100, 3)}
    label(ledger, drawn, Draw.of(VIEW))
    random = ledger.do(report_cutoff, VIEW, "default", cutoff=0.24).labels
    assert (random.is_random, random.n_used, random.n) == (True, 34, 60)
    assert (random.at.precision.value, random.at.recall.value) == (1, 1)
    usual = ledger.do(report_cutoff, VIEW, "default")
    assert (usual.cutoff, usual.labels.wanted_precision) == (pytest.approx(0.1, abs=0.011), 0.9)


def test_small_views_are_drawn_from_exactly(ledger):
    job = scored(ledger, [n / 100 for n in range(100)])
    drawn = ledger.do(sample_scores, VIEW, 20, seed=1)
    assert (len({row.key for row in drawn.rows}), drawn.population) == (20, 100)
    assert ledger.do(sample_scores, VIEW, 20, seed=1) == drawn
    assert ledger.do(sample_scores, VIEW, 20, seed=2) != drawn
    part = ScoreFilter(profile=ALONE.id, job=job.id, min=0.2, max=0.29)
    assert sorted(row.score for row in ledger.do(sample_scores, part, 50).rows) == [n / 100 for n in range(20, 30)]


@pytest.mark.parametrize("where", ["bucket", "folder", "job", "range"])
def test_large_views_are_drawn_from_by_the_roll_ups(ledger, monkeypatch, where):
    for module in ("stats", "samples"):
        monkeypatch.setattr(f"dpiqa.storage.{module}.MAX_ROWS", 50)
    score_all(ledger, {f"a/{n:04}.jpg": n / 1000 for n in range(1000)}, ALONE, STUDENT)
    job = score_all(ledger, {f"b/{n:04}.jpg": 0.5 + n / 1000 for n in range(300)}, ALONE, STUDENT)
    if where != "job":
        ledger.do(fold_results)
    view, keys, mean = {
        "bucket": (VIEW, "ab", (1000 * 0.5 + 300 * 0.65) / 1300),
        "folder": (ScoreFilter(profile=ALONE.id, bucket="photos", prefix="b/"), "b", 0.65),
        "job": (ScoreFilter(profile=ALONE.id, job=job.id), "b", 0.65),
        "range": (ScoreFilter(profile=ALONE.id, bucket="photos", prefix="a/", min=0.2, max=0.3), "a", 0.25),
    }[where]
    drawn = [row for seed in range(4) for row in ledger.do(sample_scores, view, 100, seed=seed).rows]
    assert {row.key[0] for row in drawn} == set(keys)
    assert sum(row.score for row in drawn) / len(drawn) == pytest.approx(mean, abs=0.05)
    assert len(drawn) > 200


def test_a_sample_of_a_small_part_is_smaller(ledger, monkeypatch):
    for module in ("stats", "samples"):
        monkeypatch.setattr(f"dpiqa.storage.{module}.MAX_ROWS", 50)
    monkeypatch.setattr(samples, "MAX_STEPS", 100)
    score_all(ledger, {f"a/{n:04}.jpg": n / 1000 for n in range(900)}, ALONE, STUDENT)
    score_all(ledger, {f"b/{n:04}.jpg": n / 1000 for n in range(100)}, ALONE, STUDENT)
    of_folder = ScoreFilter(profile=ALONE.id, bucket="photos", prefix="b/")
    drawn = ledger.do(sample_scores, of_folder, 60)
    assert (len(drawn.rows) <= 10, drawn.population) == (True, 100)
    with pytest.raises(InvalidRequest, match="no sample of more than 50 results"):
        ledger.do(sample_scores, ScoreFilter(profile=ALONE.id, bucket="photos", prefix="a/0"), 60)


def test_profiles_are_compared_on_the_images_that_both_scored(ledger):
    scores = [n / 100 for n in range(100)]
    scored(ledger, scores)
    turned = {f"{n:04}.jpg": score for n, score in enumerate([*scores[:90], 0.001]) if n != 50}
    score_all(ledger, turned, OTHER, TEACHER)
    found = ledger.do(compare_profiles, VIEW, OTHER.id, Options(cutoff=0.105))
    assert (found.population, found.n_sampled, found.n, len(found.points)) == (100, 100, 90, 90)
    assert found.correlation.value > 0.9
    assert (found.n_both, found.n_first_alone, found.n_second_alone, found.n_neither) == (10, 1, 1, 78)
    assert [image.key for image in found.fell][:1] == ["0090.jpg"]
    assert [image.key for image in found.second_alone] == ["0090.jpg"]
    assert [image.key for image in found.first_alone] == ["0010.jpg"]
    assert found.fell[0].second_score == 0.001
    with pytest.raises(InvalidRequest, match="cannot be compared with itself"):
        ledger.do(compare_profiles, VIEW, ALONE.id, Options())
    empty = ledger.do(compare_profiles, VIEW, "none@1", Options())
    assert (empty.n, empty.correlation, empty.first_cutoff) == (0, None, None)


@pytest.mark.parametrize("is_large", [False, True])
def test_the_student_is_compared_with_the_teacher_on_the_images_that_both_scored(ledger, monkeypatch, is_large):
    if is_large:
        for module in ("stats", "samples"):
            monkeypatch.setattr(f"dpiqa.storage.{module}.MAX_ROWS", 5)
    ledger = Ledger(ledger.engine, BOTH)
    _, ids = ledger.submit([ref(f"{n:04}.jpg") for n in range(100)])
    asked = ledger.score(ids, value=lambda claim: int(claim.ref.key[:4]) / 100).teacher_items
    ledger.score(asked, stage=Stage.TEACHER, value=lambda claim: 1 - int(claim.ref.key[:4]) / 100)
    view = ScoreFilter(profile=BOTH.id, bucket="photos")
    found = ledger.do(compare_models, view, Options())
    assert (found.profile, found.first, found.second) == (BOTH.id, "student", "teacher")
    assert found.population == len(asked) == 21
    assert found.n == len(found.points) <= 21
    assert (found.n == 21) is not is_large or found.n > 8  # a sample of many is drawn with repetition
    assert found.correlation.value == pytest.approx(-1)
    assert all(0.4 <= student <= 0.6 and student + teacher == pytest.approx(1) for student, teacher in found.points)
    assert {(image.key, image.first_rank) for image in found.rose if image.first_rank == 0} <= {("0040.jpg", 0)}
    with pytest.raises(InvalidRequest, match="has no teacher"):
        ledger.do(compare_models, ScoreFilter(profile=ALONE.id), Options())


def test_a_saved_profile_is_found_by_its_name(ledger):
    cutoff = Cutoff(at=0.42, margin=0.05)
    saved = ledger.do(save_profile, "portfolio", ALONE, cutoff)
    assert (saved.id, saved.student, saved.cutoffs) == ("portfolio@1", ALONE.student, (cutoff,))
    assert ledger.do(save_profile, "portfolio", ALONE, cutoff) == saved
    newer = ledger.do(save_profile, "portfolio", ALONE, Cutoff(at=0.4, margin=0.05), client="editors")
    assert newer.version == 2
    assert ledger.do(find_named_profile, "portfolio") == newer
    assert ledger.do(find_named_profile, "portfolio@1") == saved == ledger.do(read_profile, "portfolio@1")
    job = ledger.job(profile=ledger.do(find_named_profile, "portfolio"))
    assert job.profile == "portfolio@2"
    limited = Grants.of(["s3://photos/ours/"])
    assert ledger.do(find_named_profile, "portfolio", grants=limited, client="editors") == newer
    with pytest.raises(NotFound):
        ledger.do(find_named_profile, "portfolio", grants=limited, client="others")
    with pytest.raises(NotFound):
        ledger.do(find_named_profile, "portfolio@3")
    built_in = load_profile("default")
    assert ledger.do(save_profile, "default", ALONE, cutoff).version == built_in.version + 1  # never that of a file
    assert ledger.do(find_named_profile, built_in.id) == built_in

"""Labels, samples, cut-offs, comparisons and saved profiles over HTTP, as a client uses them together."""

import csv
import io

import pytest
from support.ledger import ALONE, BOTH, STUDENT, TEACHER, Ledger, refs
from support.scored import score_all

from dpiqa.datasets.registry import find_dataset
from dpiqa.profiles import Profile
from dpiqa.types import Stage

OTHER = Profile(name="other", version=1, student="teacher")
VIEW = {"bucket": "photos", "profile": ALONE.id}


@pytest.fixture
def ledger(client):
    ledger = Ledger(client.app.state.engine)
    score_all(ledger, {f"{n:03}.jpg": n / 100 for n in range(100)}, ALONE, STUDENT)
    return ledger


def label(client, rows, draw=None):
    body = {
        "labels": [
            {name: row[name] for name in ("bucket", "key", "etag")}
            | {"verdict": "reject" if row["score"] < 0.3 else "accept"}
            for row in rows
        ],
        "draw": draw,
    }
    return client.put("/v1/labels", json=body)


def test_a_cutoff_is_chosen_from_a_random_sample_and_used_by_the_next_job(client, ledger):
    before = client.get("/v1/threshold", params=VIEW).json()
    assert (before["n"], before["labels"]["n"], before["labels"]["at"]) == (100, 0, None)
    sample = client.get("/v1/scores/sample", params={**VIEW, "limit": 50, "seed": 3}).json()
    assert (len(sample["items"]), sample["population"]) == (50, 100)
    assert label(client, sample["items"], sample["draw"]).json() == {"label_set": "default", "saved": 50, "removed": 0}
    found = client.get("/v1/threshold", params={**VIEW, "cutoff": 0.2, "precision": 0.95}).json()
    labels = found["labels"]
    assert (found["share_rejected"], labels["is_random"], labels["n_used"]) == (0.2, True, 50)
    assert (labels["at"]["precision"]["value"], labels["at"]["recall"]["value"] < 1) == (1.0, True)
    chosen = labels["for_precision"]["cutoff"]
    assert 0.25 < chosen < 0.36
    saved = client.post("/v1/profiles", json={"name": "portfolio", "base": "smoke", "cutoff": chosen})
    assert (saved.status_code, saved.json()["id"]) == (201, "portfolio@1")
    assert saved.json()["definition"]["cutoffs"] == [{"at": chosen, "margin": 0.05}]
    job = client.post("/v1/jobs", json={"bucket": "photos", "profile": "portfolio"})
    assert (job.status_code, job.json()["profile"]) == (202, "portfolio@1")
    assert "portfolio@1" in {row["id"] for row in client.get("/v1/profiles").json()["items"]}
    actions = {row["action"]: row["subject"] for row in client.get("/v1/audit").json()["items"]}
    assert (actions["label"], actions["profile"]) == ("default", "portfolio@1")


def test_labels_around_a_cutoff_are_not_taken_for_a_random_sample(client, ledger):
    near = client.get("/v1/scores", params={**VIEW, "min": 0.1, "max": 0.5}).json()["items"]
    label(client, near)
    labels = client.get("/v1/threshold", params={**VIEW, "cutoff": 0.3}).json()["labels"]
    assert (labels["n"], labels["n_random"], labels["is_random"]) == (41, 0, False)


def test_exported_labels_are_a_data_set(client, ledger, tmp_path):
    rows = client.get("/v1/scores", params={**VIEW, "limit": 40}).json()["items"]
    label(client, rows)
    answer = client.get("/v1/labels/export?bucket=photos")
    assert answer.headers["x-dpiqa-schema"] == "labels@1"
    exported = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["key"], row["verdict"], row["mos"], row["random"]) for row in (exported[0], exported[-1])] == [
        ("000.jpg", "reject", "0.0", "false"),
        ("039.jpg", "accept", "1.0", "false"),
    ]
    (tmp_path / "labels.csv").write_text(answer.text)
    read = find_dataset("csv").readers[0].rows(tmp_path / "labels.csv")
    assert [(row.image, row.score) for row in (read[0], read[-1])] == [("000.jpg", 0.0), ("039.jpg", 1.0)]
    first = client.get("/v1/labels?limit=30").json()
    rest = client.get("/v1/labels", params={"limit": 30, "cursor": first["next_cursor"]}).json()
    assert [row["key"] for row in first["items"] + rest["items"]] == [row["key"] for row in exported]


def test_two_profiles_are_compared(client, ledger):
    score_all(ledger, {f"{n:03}.jpg": (n % 50) / 50 for n in range(100)}, OTHER, TEACHER)
    found = client.get("/v1/comparison", params={**VIEW, "second": OTHER.id, "cutoff": 0.2}).json()
    assert (found["n"], found["population"], found["n_both"] + found["n_first_alone"]) == (100, 100, 20)
    assert 0 < found["correlation"]["low"] < found["correlation"]["value"] < 0.6
    assert found["fell"][0]["key"] == "050.jpg"
    for sides in ({"second": ALONE.id}, {}, {"second": OTHER.id, "teacher": True}, {"teacher": True}):
        refused = client.get("/v1/comparison", params={**VIEW, **sides})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request"), sides


def test_a_student_is_compared_with_its_teacher(client):
    ledger = Ledger(client.app.state.engine, BOTH)
    asked = ledger.score(ledger.submit(refs(10))[1], value=0.5).teacher_items
    ledger.score(asked, stage=Stage.TEACHER, value=0.7)
    found = client.get("/v1/comparison", params={"profile": BOTH.id, "teacher": True}).json()
    assert (found["first"], found["second"], found["n"]) == ("student", "teacher", len(asked))
    assert found["points"] == [[0.5, 0.7]] * len(asked)
    page = client.get("/compare", params={"profile": BOTH.id}).text  # the only profile with a second side
    assert ("teacher rejects" in page, "checked" in page) == (True, True)

"""Jobs that name a requirement, and the direction of the scores they end in."""

import numpy as np
import pytest
from support.ledger import STUDENT, Ledger, refs

from dpiqa.requirement import Pair, Preparation, RequirementRequest, Stability
from dpiqa.routing import decide
from dpiqa.storage.items import Scored
from dpiqa.storage.listings import finish_listing, start_listing
from dpiqa.storage.profiles import read_profile
from dpiqa.storage.requirements import add_requirement, save_preparation
from dpiqa.storage.results import record
from dpiqa.types import Direction, Stage

CARD = STUDENT.model_copy(
    update={"requirement": "blur@1", "score_scale": "0-1: lower is better", "lower_is_better": True}
)


@pytest.fixture
def ledger(client):
    return Ledger(client.app.state.engine)


def request(name):
    pairs = tuple(Pair(f"s3://photos/isp/{n}.jpg", n / 4) for n in range(5))
    return RequirementRequest(name=name, pairs=pairs, direction=Direction.LOWER, model=STUDENT.name)


@pytest.fixture
def blur(ledger):
    """The requirement blur@1, ready to score by."""

    def keep(c):
        requirement = add_requirement(c, request("blur"), digests=["d"] * 5)
        stability = Stability(srcc=1.0, mae=0.1, scores=(0.5,) * 5)
        features = np.zeros((5, 2), np.float32)
        preparation = Preparation(
            scorer_id=STUDENT.scorer_id, features=features, stability=stability, contradictions=()
        )
        save_preparation(c, requirement, preparation)

    ledger.do(keep)


@pytest.mark.parametrize(
    "place", [{"bucket": "photos"}, {"source": "s3://photos/in/"}, {"bucket": "photos", "kind": "list", "keys": ["a"]}]
)
def test_a_job_may_name_a_requirement_instead_of_a_profile(client, blur, place):
    for name in ("blur", "blur@1"):
        answer = client.post("/v1/jobs", json=place | {"requirement": name})
        assert (answer.status_code, answer.json()["profile"]) == (202, "blur-by-student@1")


def test_a_watch_may_too(client, blur):
    ids = {client.post("/v1/jobs", json={"bucket": "b", "kind": "watch", "requirement": "blur"}).json()["id"]}
    ids.add(client.post("/v1/jobs", json={"bucket": "b", "kind": "watch", "requirement": "blur@1"}).json()["id"])
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"requirement": "nonesuch"}, "no requirement 'nonesuch'"),
        ({"requirement": "waiting"}, "not checked yet"),
        ({"requirement": "No Name"}, "requirement"),
        ({"requirement": "blur", "profile": "smoke"}, "must have only one of"),
    ],
)
def test_what_is_not_ready_is_the_callers_error(client, ledger, blur, fields, words):
    ledger.do(add_requirement, request("waiting"))
    answer = client.post("/v1/jobs", json={"bucket": "photos"} | fields)
    assert answer.status_code == 422
    assert words in answer.text


def test_worst_is_the_high_end_where_lower_is_better(client, ledger, blur):
    job = client.post("/v1/jobs", json={"bucket": "photos", "requirement": "blur"}).json()
    started = ledger.do(start_listing, job["id"], 60)
    ids = ledger.add(started, refs(10))
    ledger.do(finish_listing, started)
    claims = ledger.claim(ids)
    scored = [Scored(claim, int(claim.ref.key[1:]) / 10, claim.ref.etag) for claim in claims]
    profile = ledger.do(read_profile, job["profile"])
    ledger.do(record, Stage.STUDENT, profile, CARD, scored, decide=decide)

    def scores(**query):
        page = client.get("/v1/scores", params={"profile": job["profile"]} | query).json()
        assert {row["scale"] for row in page["items"]} == {"0-1: lower is better"}
        return [row["score"] for row in page["items"]]

    assert scores(limit=3) == [0.9, 0.8, 0.7]
    assert scores(sort="score", limit=2) == [0.0, 0.1]
    assert scores(worst="20%") == [0.9, 0.8]
    assert scores(best="20%") == [0.0, 0.1]
    (score,) = client.get("/v1/scores/lookup", params={"bucket": "photos", "key": "k00003"}).json()["scores"]
    assert (score["model"], score["scale"]) == (f"{STUDENT.scorer_id}:blur@1", "0-1: lower is better")

"""Versions of requirements, and one worker at a time that prepares them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpiqa.errors import ConfigurationError, LeaseLost, NotFound
from dpiqa.requirement import Pair, Preparation, RequirementRequest, Stability
from dpiqa.storage import requirements as rows
from dpiqa.storage.requirement_queries import list_requirements
from dpiqa.storage.requirements import find_prepared, read_preparations, save_preparation
from dpiqa.types import Direction, RequirementState

DIGESTS = list("abcde")
SCORER = "promptiqa:0123456789ab:prep-v1:float32"


def request(name="portraits", *, scores=(0.0, 0.25, 0.5, 0.75, 1.0), **changes):
    pairs = tuple(Pair(f"s3://photos/{number}.jpg", score) for number, score in enumerate(scores))
    values = {"pairs": pairs, "direction": Direction.LOWER, "model": "promptiqa"} | changes
    return RequirementRequest(name=name, **values)


def preparation(scorer_id=SCORER, value=0.5, srcc=0.7):
    features = np.full((5, 3), value, dtype=np.float32)
    features[1, 2] = np.pi
    return Preparation(
        scorer_id=scorer_id,
        features=features,
        stability=Stability(srcc, 0.125, (0.1, 0.2, 0.3, 0.4, 0.5)),
        contradictions=("a and b are alike",),
    )


def ready(ledger, **changes):
    """Add a version whose images were read."""
    return ledger.do(rows.add_requirement, request(**changes), digests=DIGESTS)


def test_versions_are_numbered_and_stay(ledger):
    first = ready(ledger)
    second = ready(ledger, scores=(0.0, 0.2, 0.5, 0.75, 1.0))
    other = ready(ledger, name="documents")
    assert [one.id for one in (first, second, other)] == ["portraits@1", "portraits@2", "documents@1"]
    assert ledger.do(rows.read_requirement, "portraits") == second
    assert ledger.do(rows.read_requirement, "portraits@1") == first
    assert [pair.score for pair, _ in ledger.do(rows.read_pairs, first)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [(pair.path, digest) for pair, digest in ledger.do(rows.read_pairs, first)][1] == ("s3://photos/1.jpg", "b")
    assert (first.state, first.direction, first.error) == (RequirementState.READY, Direction.LOWER, None)


def test_versions_of_many_at_once_are_consecutive(ledger):
    requests = [request(scores=(0.0, 0.25, 0.5, 0.75, number / 10)) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda new: ledger.do(rows.add_requirement, new), requests))
    assert sorted(requirement.version for requirement in added) == list(range(1, 9))


@pytest.mark.parametrize(
    "name", ["nothing", "portraits@2", "portraits@0", "portraits@", "portraits@x", "@1", "a@1@1", ""]
)
def test_what_is_not_there(ledger, name):
    ready(ledger)
    with pytest.raises(NotFound, match="dpiqa requirements list"):
        ledger.do(rows.read_requirement, name)


def test_a_name_means_its_newest_ready_version(ledger):
    first = ready(ledger)
    pending = ledger.do(rows.add_requirement, request(scores=(0.0, 0.2, 0.5, 0.75, 1.0)))
    assert (pending.id, pending.state) == ("portraits@2", RequirementState.PENDING)
    assert ledger.do(rows.read_requirement, "portraits") == first
    alone = ledger.do(rows.add_requirement, request("documents"))
    assert ledger.do(rows.read_requirement, "documents") == alone


def test_equal_content_and_equal_requests_are_found(ledger):
    first = ready(ledger)
    assert ledger.do(rows.same_content, "portraits", request().content_hash(DIGESTS)) == first
    assert ledger.do(rows.same_content, "portraits", request().content_hash(DIGESTS[::-1])) is None
    assert ledger.do(rows.same_content, "documents", request().content_hash(DIGESTS)) is None
    assert ledger.do(rows.same_request, "portraits", request().hash) == first
    assert ledger.do(rows.same_request, "portraits", request(force=True).hash) is None


def test_a_refused_request_may_come_again(ledger):
    row = ledger.do(rows.add_requirement, request())
    assert ledger.do(rows.same_request, "portraits", request().hash) == row
    leased = ledger.do(rows.start_preparing, row.row_id, 60)
    ledger.do(rows.refuse, leased, "two images are gone")
    assert ledger.do(rows.same_request, "portraits", request().hash) is None
    refused = ledger.do(rows.read_requirement, "portraits@1")
    assert (refused.state, refused.error) == (RequirementState.REFUSED, "two images are gone")
    assert refused.finished_at


def test_one_worker_at_a_time(ledger):
    row = ledger.do(rows.add_requirement, request())
    assert ledger.do(rows.unprepared) == [row.row_id]
    leased = ledger.do(rows.start_preparing, row.row_id, 60)
    assert (leased.attempt, leased.crashes) == (1, 0)
    assert ledger.do(rows.start_preparing, row.row_id, 60) is None
    assert ledger.do(rows.unprepared) == []
    assert ledger.do(rows.renew_preparing, [(row.row_id, 1)], 60) == {row.row_id}
    ledger.do(rows.release_preparing, leased)
    assert ledger.do(rows.unprepared) == [row.row_id]
    again = ledger.do(rows.start_preparing, row.row_id, 60)
    assert (again.attempt, again.crashes) == (2, 0)


def test_who_lost_the_lease_writes_nothing(ledger):
    row = ledger.do(rows.add_requirement, request())
    slow = ledger.do(rows.start_preparing, row.row_id, 60)
    ledger.sql("UPDATE requirements SET lease_until = clock_timestamp() - interval '1 s'")
    assert ledger.do(rows.unprepared) == [row.row_id]
    quick = ledger.do(rows.start_preparing, row.row_id, 60)
    assert (quick.attempt, quick.crashes) == (2, 1)
    assert ledger.do(rows.renew_preparing, [(row.row_id, slow.attempt)], 60) == set()
    ledger.do(rows.release_preparing, slow)
    for write in (
        lambda: ledger.do(rows.accept, slow, digests=DIGESTS, content_hash="x"),
        lambda: ledger.do(rows.refuse, slow, "late"),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert ledger.do(rows.unprepared) == []
    ledger.do(rows.accept, quick, digests=DIGESTS, content_hash="y")
    assert ledger.do(rows.read_requirement, "portraits").state is RequirementState.READY
    assert [digest for _, digest in ledger.do(rows.read_pairs, quick)] == DIGESTS
    assert ledger.do(rows.start_preparing, row.row_id, 60) is None


def test_features_come_back_as_they_were(ledger):
    requirement = ready(ledger)
    computed = preparation()
    ledger.do(save_preparation, requirement, computed)
    ledger.do(save_preparation, requirement, preparation(value=0.9))  # what is kept stays
    (stored,) = ledger.do(read_preparations, requirement)
    assert stored.preparation.features.dtype == np.float32
    assert (stored.preparation.features == computed.features).all()
    assert stored.preparation.stability == computed.stability
    assert stored.preparation.contradictions == computed.contradictions


def test_an_undefined_correlation_is_kept(ledger):
    requirement = ready(ledger)
    ledger.do(save_preparation, requirement, preparation(srcc=None))
    assert ledger.do(read_preparations, requirement)[0].preparation.stability.srcc is None


def test_finding_what_to_score_by(ledger):
    requirement = ready(ledger)
    ledger.do(save_preparation, requirement, preparation(value=0.25))
    newer = SCORER.replace("0123456789ab", "ba9876543210")
    ledger.do(save_preparation, requirement, preparation(newer, value=0.75))
    prepared = ledger.do(find_prepared, "portraits")
    assert (prepared.id, prepared.base_scorer_id, prepared.direction) == ("portraits@1", newer, "lower is better")
    half = ledger.do(find_prepared, "portraits@1", scorer_id=SCORER.replace("float32", "bfloat16"))
    assert (half.base_scorer_id, half.features[0, 0]) == (SCORER, 0.25)
    with pytest.raises(ConfigurationError, match="has no prompt features of other:1:p:float32"):
        ledger.do(find_prepared, "portraits", scorer_id="other:1:p:float32")


def test_what_is_not_ready_is_not_scored_by(ledger):
    row = ledger.do(rows.add_requirement, request())
    with pytest.raises(ConfigurationError, match="not checked yet"):
        ledger.do(find_prepared, "portraits")
    ledger.do(rows.refuse, ledger.do(rows.start_preparing, row.row_id, 60), "too few")
    with pytest.raises(ConfigurationError, match="was refused: too few"):
        ledger.do(find_prepared, "portraits@1")


def test_pages(ledger):
    for name in ("b", "a", "c"):
        ready(ledger, name=name)
    ready(ledger, name="a", direction=Direction.HIGHER)
    first = ledger.do(list_requirements, limit=3)
    second = ledger.do(list_requirements, limit=3, cursor=first.next_cursor)
    assert [row.id for row in [*first.items, *second.items]] == ["a@1", "a@2", "b@1", "c@1"]
    assert second.next_cursor is None

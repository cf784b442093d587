"""Versions of requirements, and one worker at a time that prepares them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpiqa.errors import ConfigurationError, LeaseLost, NotFound
from dpiqa.requirement import Pair, Preparation, RequirementRequest, Stability
from dpiqa.storage import requirements as rows
from dpiqa.storage.requirement_queries import list_requirements
from dpiqa.storage.requirements import find, read_preparations, save_preparation
from dpiqa.types import Direction, RequirementState

DIGESTS = list("abcde")
SCORER = "promptiqa:0123456789ab:prep-v1:float32"


def wanted(name="portraits", *, scores=(0.0, 0.25, 0.5, 0.75, 1.0), **changes):
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


def ready(book, **changes):
    """Add a version whose images were read."""
    return book.do(rows.add_requirement, wanted(**changes), digests=DIGESTS)


def test_versions_are_numbered_and_stay(book):
    first = ready(book)
    second = ready(book, scores=(0.0, 0.2, 0.5, 0.75, 1.0))
    other = ready(book, name="documents")
    assert [one.id for one in (first, second, other)] == ["portraits@1", "portraits@2", "documents@1"]
    assert book.do(rows.read_requirement, "portraits") == second
    assert book.do(rows.read_requirement, "portraits@1") == first
    assert [pair.score for pair, _ in book.do(rows.read_pairs, first)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [(pair.path, digest) for pair, digest in book.do(rows.read_pairs, first)][1] == ("s3://photos/1.jpg", "b")
    assert (first.state, first.direction, first.error) == (RequirementState.READY, Direction.LOWER, None)


def test_versions_of_many_at_once_are_consecutive(book):
    requests = [wanted(scores=(0.0, 0.25, 0.5, 0.75, number / 10)) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda one: book.do(rows.add_requirement, one), requests))
    assert sorted(one.version for one in made) == list(range(1, 9))


@pytest.mark.parametrize(
    "name", ["nothing", "portraits@2", "portraits@0", "portraits@", "portraits@x", "@1", "a@1@1", ""]
)
def test_what_is_not_there(book, name):
    ready(book)
    with pytest.raises(NotFound, match="dpiqa requirements list"):
        book.do(rows.read_requirement, name)


def test_a_name_means_its_newest_ready_version(book):
    first = ready(book)
    pending = book.do(rows.add_requirement, wanted(scores=(0.0, 0.2, 0.5, 0.75, 1.0)))
    assert (pending.id, pending.state) == ("portraits@2", RequirementState.PENDING)
    assert book.do(rows.read_requirement, "portraits") == first
    alone = book.do(rows.add_requirement, wanted("documents"))
    assert book.do(rows.read_requirement, "documents") == alone


def test_equal_content_and_equal_requests_are_found(book):
    first = ready(book)
    assert book.do(rows.same_content, "portraits", wanted().content_hash(DIGESTS)) == first
    assert book.do(rows.same_content, "portraits", wanted().content_hash(DIGESTS[::-1])) is None
    assert book.do(rows.same_content, "documents", wanted().content_hash(DIGESTS)) is None
    assert book.do(rows.same_request, "portraits", wanted().hash) == first
    assert book.do(rows.same_request, "portraits", wanted(force=True).hash) is None


def test_a_refused_request_may_come_again(book):
    row = book.do(rows.add_requirement, wanted())
    assert book.do(rows.same_request, "portraits", wanted().hash) == row
    held = book.do(rows.start_preparing, row.row_id, 60)
    book.do(rows.refuse, held, "two images are gone")
    assert book.do(rows.same_request, "portraits", wanted().hash) is None
    refused = book.do(rows.read_requirement, "portraits@1")
    assert (refused.state, refused.error) == (RequirementState.REFUSED, "two images are gone")
    assert refused.finished_at


def test_one_worker_at_a_time(book):
    row = book.do(rows.add_requirement, wanted())
    assert book.do(rows.unprepared) == [row.row_id]
    held = book.do(rows.start_preparing, row.row_id, 60)
    assert (held.attempt, held.crashes) == (1, 0)
    assert book.do(rows.start_preparing, row.row_id, 60) is None
    assert book.do(rows.unprepared) == []
    assert book.do(rows.renew_preparing, [(row.row_id, 1)], 60) == {row.row_id}
    book.do(rows.release_preparing, held)
    assert book.do(rows.unprepared) == [row.row_id]
    again = book.do(rows.start_preparing, row.row_id, 60)
    assert (again.attempt, again.crashes) == (2, 0)


def test_who_lost_the_lease_writes_nothing(book):
    row = book.do(rows.add_requirement, wanted())
    slow = book.do(rows.start_preparing, row.row_id, 60)
    book.sql("UPDATE requirements SET lease_until = clock_timestamp() - interval '1 s'")
    assert book.do(rows.unprepared) == [row.row_id]
    quick = book.do(rows.start_preparing, row.row_id, 60)
    assert (quick.attempt, quick.crashes) == (2, 1)
    assert book.do(rows.renew_preparing, [(row.row_id, slow.attempt)], 60) == set()
    book.do(rows.release_preparing, slow)
    for write in (
        lambda: book.do(rows.accept, slow, digests=DIGESTS, content_hash="x"),
        lambda: book.do(rows.refuse, slow, "late"),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert book.do(rows.unprepared) == []
    book.do(rows.accept, quick, digests=DIGESTS, content_hash="y")
    assert book.do(rows.read_requirement, "portraits").state is RequirementState.READY
    assert [digest for _, digest in book.do(rows.read_pairs, quick)] == DIGESTS
    assert book.do(rows.start_preparing, row.row_id, 60) is None


def test_features_come_back_as_they_were(book):
    requirement = ready(book)
    made = preparation()
    book.do(save_preparation, requirement, made)
    book.do(save_preparation, requirement, preparation(value=0.9))  # what is kept stays
    (stored,) = book.do(read_preparations, requirement)
    assert stored.preparation.features.dtype == np.float32
    assert (stored.preparation.features == made.features).all()
    assert stored.preparation.stability == made.stability
    assert stored.preparation.contradictions == made.contradictions


def test_an_undefined_correlation_is_kept(book):
    requirement = ready(book)
    book.do(save_preparation, requirement, preparation(srcc=None))
    assert book.do(read_preparations, requirement)[0].preparation.stability.srcc is None


def test_finding_what_to_score_by(book):
    requirement = ready(book)
    book.do(save_preparation, requirement, preparation(value=0.25))
    newer = SCORER.replace("0123456789ab", "ba9876543210")
    book.do(save_preparation, requirement, preparation(newer, value=0.75))
    found = book.do(find, "portraits")
    assert (found.id, found.base_scorer_id, found.direction) == ("portraits@1", newer, "lower is better")
    half = book.do(find, "portraits@1", scorer_id=SCORER.replace("float32", "bfloat16"))
    assert (half.base_scorer_id, half.features[0, 0]) == (SCORER, 0.25)
    with pytest.raises(ConfigurationError, match="has no prompt features of other:1:p:float32"):
        book.do(find, "portraits", scorer_id="other:1:p:float32")


def test_what_is_not_ready_is_not_scored_by(book):
    row = book.do(rows.add_requirement, wanted())
    with pytest.raises(ConfigurationError, match="not checked yet"):
        book.do(find, "portraits")
    book.do(rows.refuse, book.do(rows.start_preparing, row.row_id, 60), "too few")
    with pytest.raises(ConfigurationError, match="was refused: too few"):
        book.do(find, "portraits@1")


def test_pages(book):
    for name in ("b", "a", "c"):
        ready(book, name=name)
    ready(book, name="a", direction=Direction.HIGHER)
    first = book.do(list_requirements, limit=3)
    second = book.do(list_requirements, limit=3, cursor=first.next_cursor)
    assert [row.id for row in [*first.items, *second.items]] == ["a@1", "a@2", "b@1", "c@1"]
    assert second.next_cursor is None

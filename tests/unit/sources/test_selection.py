"""Filters: what of a source becomes items, counted by reason, the same after a restart."""

from datetime import UTC, datetime

import pytest

from dpiqa.errors import InvalidRequest
from dpiqa.sources.base import SourcePage
from dpiqa.sources.names import is_no_image
from dpiqa.sources.selection import select
from dpiqa.sources.spec import SourceSpec, Tally
from dpiqa.types import ImageRef

TIME = datetime(2024, 6, 1, tzinfo=UTC)


class Pages:
    """A source of pages of ten objects; the cursor is the number of objects read."""

    def __init__(self, refs, malformed=0):
        self.refs, self.malformed, self.passes = refs, malformed, 0

    def pages(self, cursor=None):
        self.passes += 1
        for start in range(int(cursor or 0), len(self.refs), 10):
            page = self.refs[start : start + 10]
            yield SourcePage(
                refs=page,
                cursor=str(start + len(page)),
                malformed=self.malformed,
                examples=["row 1: bad"] * self.malformed,
            )


def refs(*keys, **values):
    return [ImageRef(bucket="b", key=key, etag="e", **values) for key in keys]


MANY = refs(*(f"{n:03}.jpg" for n in range(100)))


def run(source, cursor=None, tally=None, **filters):
    selections = list(select(source, SourceSpec(**filters), cursor, tally or Tally()))
    return [ref.key for selection in selections for ref in selection.refs], selections[-1].tally


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", False), ("a.JPG", False), ("a.cr2", False), ("a.heic", False), ("noextension", False),
        ("a.txt.jpg", False), (".jpg", False), ("a.svg", False),
        ("a.txt", True), ("x/a.JSON", True), ("a.xmp", True), ("x/._a.jpg", True), ("x/Thumbs.db", True),
        (".DS_Store", True), ("a.mp4", True), ("folder/", True), ("b.jpg.md5", True),
    ],
)  # fmt: skip
def test_names_that_are_no_image(name, expected):
    assert is_no_image(name) is expected


@pytest.mark.parametrize(
    ("filters", "kept", "passed_over"),
    [
        ({}, ["x/a.jpg", "x/b.PNG", "y/c.jpg"], {"name": 2}),
        ({"all_names": True}, ["x/a.jpg", "x/b.PNG", "x/n.txt", "y/c.jpg", "y/Thumbs.db"], {}),
        ({"include": ["*.jpg"]}, ["x/a.jpg", "y/c.jpg"], {"not_included": 3}),
        ({"include": ["x/*", "*.db"]}, ["x/a.jpg", "x/b.PNG", "x/n.txt", "y/Thumbs.db"], {"not_included": 1}),
        ({"exclude": ["b.*", "y/*"]}, ["x/a.jpg"], {"name": 2, "excluded": 2}),
        ({"include": ["*.jpg"], "exclude": ["y/*"]}, ["x/a.jpg"], {"not_included": 3, "excluded": 1}),
        ({"include": ["[ab].???"]}, ["x/a.jpg", "x/b.PNG"], {"not_included": 3}),
        ({"limit": 2}, ["x/a.jpg", "x/b.PNG"], {"name": 2}),
    ],
)
def test_globs_names_and_limits(filters, kept, passed_over):
    keys, tally = run(Pages(refs("x/a.jpg", "x/b.PNG", "x/n.txt", "y/c.jpg", "y/Thumbs.db")), **filters)
    assert (keys, tally.passed_over, tally.taken) == (kept, passed_over, len(kept))


def test_what_is_older_than_since_is_passed_over_and_what_has_no_time_is_not():
    source = Pages([*refs("old", last_modified=TIME), *refs("new", last_modified=TIME.replace(day=2)), *refs("any")])
    keys, tally = run(source, since=TIME.replace(hour=1))
    assert (keys, tally.passed_over) == (["new", "any"], {"older": 1})


def test_a_limit_holds_over_a_restart():
    expected = [ref.key for ref in MANY if not ref.key.endswith("3.jpg")][:35]
    selections = list(select(Pages(MANY), SourceSpec(limit=35, exclude=["*3.jpg"]), None, Tally()))
    for number, selection in enumerate(selections[:-1], 1):
        before = [ref.key for earlier in selections[:number] for ref in earlier.refs]
        rest, tally = run(Pages(MANY), selection.cursor, selection.tally, limit=35, exclude=["*3.jpg"])
        assert (before + rest, tally.taken) == (expected, 35)


def test_a_sample_is_random_exact_and_the_same_after_a_restart():
    keys, tally = run(Pages(MANY), sample=17, seed=1)
    assert len(keys) == tally.taken == 17
    assert tally.passed_over == {"not_sampled": 83}
    assert keys == run(Pages(MANY), sample=17, seed=1)[0]
    assert keys != run(Pages(MANY), sample=17, seed=2)[0] != MANY[:17]
    selections = [s for s in select(Pages(MANY), SourceSpec(sample=17, seed=1), None, Tally()) if s.cursor == "50"]
    source = Pages(MANY)
    rest, whole = run(source, "50", selections[0].tally, sample=17, seed=1)
    assert ([ref for ref in keys if ref >= "050"], source.passes, whole.taken) == (rest, 1, 17)


def test_a_sample_is_fair():
    shares = [sum(key < "050" for key in run(Pages(MANY), sample=20, seed=seed)[0]) for seed in range(40)]
    assert 8.5 < sum(shares) / len(shares) < 11.5


def test_a_sample_larger_than_the_source_is_all_of_it():
    assert run(Pages(MANY), sample=500)[0] == [ref.key for ref in MANY]
    assert run(Pages([]), sample=5)[0] == []


def test_too_many_malformed_rows_end_the_reading():
    assert run(Pages(MANY, malformed=1), max_malformed=0.1)[1].malformed == 10
    with pytest.raises(InvalidRequest, match="10 of 110 rows are malformed: row 1: bad; ") as raised:
        run(Pages(MANY, malformed=1))
    assert "--max-malformed" in raised.value.hint
    with pytest.raises(InvalidRequest, match="of 1000 rows"):  # early
        run(Pages(refs(*map(str, range(10**6))), malformed=90))

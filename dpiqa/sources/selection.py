"""The filters of a source: which of its objects become items, with a tally of the others."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpiqa.access import EVERYTHING, Grants
from dpiqa.errors import InvalidRequest
from dpiqa.sources.base import PassedOver, Source, SourcePage
from dpiqa.sources.names import is_no_image, matcher
from dpiqa.sources.spec import Filters, SourceSpec, Tally
from dpiqa.types import ImageRef

MAX_EXAMPLES = 5  #: of malformed rows, kept with a job
_MIN_ROWS = 1000  #: before the share of malformed rows counts
_MERGE_HASHES = 100_000  #: hashes of a sample that are collected before they are sorted


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects of one page that passed the filters. May be empty."""

    refs: Sequence[ImageRef]
    cursor: str | None  #: of the source
    tally: Tally  #: of all pages up to and with this one


def select(
    source: Source, spec: SourceSpec, cursor: str | None, tally: Tally, grants: Grants = EVERYTHING
) -> Iterator[Selection]:
    """Yield what passes the filters of `spec` and is granted, after `cursor`; `tally`: of what was read before it.

    A sample takes two passes: the first finds the threshold of the hashes and yields empty pages meanwhile.

    Raises as `Source.pages`, and `InvalidRequest` when too many rows are malformed.
    """
    if spec.sample is not None and tally.threshold is None:
        for threshold in _thresholds(source, spec, grants):
            yield Selection((), None, tally)
            tally = tally.model_copy(update={"threshold": threshold})
    left_out = _rules(spec, tally.threshold, grants)
    for page in source.pages(cursor):
        refs, passed_over = _sift(page.refs, left_out)
        at_limit = spec.limit is not None and tally.taken + len(refs) >= spec.limit
        if at_limit and spec.limit is not None:
            refs = refs[: spec.limit - tally.taken]
        tally = _add(tally, page, refs, passed_over)
        check_malformed(tally, spec.max_malformed)
        yield Selection(refs, page.cursor, tally)
        if at_limit:
            return
    check_malformed(tally, spec.max_malformed, is_last=True)


def check_malformed(tally: Tally, max_share: float, *, is_last: bool = False) -> None:
    """Raise `InvalidRequest` where more than a share of the rows are malformed; early only after a thousand rows."""
    if tally.malformed > max_share * tally.read and (is_last or tally.read >= _MIN_ROWS):
        raise InvalidRequest(
            f"{tally.malformed} of {tally.read} rows are malformed: {'; '.join(tally.examples)}",
            hint=f"correct them, or allow a larger share than {max_share:g}: --max-malformed, in the API max_malformed",
        )


def _add(tally: Tally, page: SourcePage, refs: Sequence[ImageRef], passed_over: Mapping[PassedOver, int]) -> Tally:
    counts = Counter(tally.passed_over)
    counts.update({str(reason): n for reason, n in page.passed_over.items()})
    counts.update({str(reason): n for reason, n in passed_over.items()})
    return Tally(
        taken=tally.taken + len(refs),
        taken_bytes=tally.taken_bytes + sum(ref.size or 0 for ref in refs),
        passed_over=dict(counts),
        malformed=tally.malformed + page.malformed,
        examples=(*tally.examples, *page.examples)[:MAX_EXAMPLES],
        threshold=tally.threshold,
    )


#: Why an object is left out, and the test for it.
_Rule = tuple[PassedOver, Callable[[ImageRef], bool]]


def _rules(filters: Filters, threshold: int | None, grants: Grants) -> list[_Rule]:
    rules: list[_Rule] = []
    if grants.are_limited:  # first: nothing more is said about what belongs to others
        rules.append((PassedOver.NOT_GRANTED, lambda ref: not grants.cover(ref.bucket, ref.key)))
    include, exclude = matcher(filters.include), matcher(filters.exclude)
    if include is not None:  # what a user names is wanted, whatever its name
        rules.append((PassedOver.NOT_INCLUDED, lambda ref: not include(ref.key)))
    elif not filters.all_names:
        rules.append((PassedOver.NAME, lambda ref: is_no_image(ref.key)))
    if exclude is not None:
        rules.append((PassedOver.EXCLUDED, lambda ref: exclude(ref.key)))
    since = filters.since
    if since is not None:
        rules.append((PassedOver.OLDER, lambda ref: ref.last_modified is not None and ref.last_modified < since))
    if threshold is not None:
        salt = _salt(filters.seed)
        rules.append((PassedOver.NOT_SAMPLED, lambda ref: _hash(ref, salt) > threshold))
    return rules


def _sift(refs: Sequence[ImageRef], rules: Sequence[_Rule]) -> tuple[Sequence[ImageRef], dict[PassedOver, int]]:
    """Return the refs that no rule leaves out, and the numbers of the others by their first rule."""
    passed_over: dict[PassedOver, int] = {}
    for reason, leaves_out in rules:
        kept = [ref for ref in refs if not leaves_out(ref)]
        if len(kept) < len(refs):
            passed_over[reason] = len(refs) - len(kept)
        refs = kept
    return refs, passed_over


# Samples: every object has a hash, the smallest hashes are the sample. So a sample needs 8 bytes per object of its own
# while it is drawn, none later, and is the same after a restart.


def _thresholds(source: Source, spec: SourceSpec, grants: Grants) -> Iterator[int | None]:
    """Read the whole source; yield None after each page, then the largest hash of the sample."""
    assert spec.sample is not None  # noqa: S101 - for the type checker
    rules, salt = _rules(spec, None, grants), _salt(spec.seed)
    smallest, new, largest = np.empty(0, np.uint64), list[int](), 2**63

    def merge() -> None:
        nonlocal smallest, largest
        smallest = np.unique(np.concatenate([smallest, np.array(new, np.uint64)]))[: spec.sample]
        largest = int(smallest[-1]) if len(smallest) == spec.sample else 2**63
        new.clear()

    for page in source.pages():
        new += [value for value in (_hash(ref, salt) for ref in _sift(page.refs, rules)[0]) if value < largest]
        if len(new) >= max(spec.sample, _MERGE_HASHES):
            merge()
        yield None
    merge()
    yield int(smallest[-1]) if len(smallest) else 0


def _salt(seed: int) -> bytes:
    return seed.to_bytes(8, "big")


def _hash(ref: ImageRef, salt: bytes) -> int:
    """Return 63 bits that look random: the same for the same object and seed."""
    name = f"{ref.bucket}/{ref.key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8, key=salt).digest(), "big") >> 1

"""Outcomes of claims whose fetch, decoding or scoring ended in an error."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dpiqa.errors import ImageRejected, ObjectChanged, ObjectGone, StoreUnavailable, Unavailable
from dpiqa.retries import retry_delay
from dpiqa.storage.items import Changed, Claim, Failed, Gone, Outcome, Postponed, Rejected, Scored
from dpiqa.text import first_line
from dpiqa.types import Reason

#: Before the first retry of an object at which the store fails, in seconds: minutes pass until it is given up.
OBJECT_SECONDS = 60.0


def outcomes_of_error(claims: Sequence[Claim], error: BaseException) -> list[Outcome]:
    """Return `outcome_of_error` of each. They are tried again at the same time: an image is fetched for all of them."""
    outcomes = [outcome_of_error(claim, error) for claim in claims]
    delays = [outcome.delay_seconds for outcome in outcomes if isinstance(outcome, Postponed | Failed)]
    return [
        replace(outcome, delay_seconds=max(delays)) if isinstance(outcome, Postponed | Failed) else outcome
        for outcome in outcomes
    ]


def outcome_of_error(claim: Claim, error: BaseException) -> Outcome:
    """Return the outcome of a claimed item whose fetch, decoding or scoring ended in `error`.

    An error about the image ends the item. Something outside that is unavailable postpones it, without limit, and at
    least as long as it asks. After anything else it is tried again a few times, then given up with the error's text: as
    `unavailable` where the store failed at this object, and returned others of its bucket meanwhile.
    """
    match error:
        case ImageRejected():
            return Rejected(claim, error.reason, error.message)
        case ObjectGone():
            return Gone(claim)
        case ObjectChanged():
            return Changed(claim, error.current)
        case StoreUnavailable(is_object=True):
            delay = retry_delay(claim.fence, base=OBJECT_SECONDS)
            return Failed(claim, first_line(error), delay, Reason.UNAVAILABLE)
        case Unavailable():
            asked = getattr(error, "retry_after", None) or 0.0
            return Postponed(claim, max(retry_delay(claim.fence), asked), str(error))
        case _:
            return Failed(claim, first_line(error), retry_delay(claim.fence))


def known_outcome(claim: Claim, score: float) -> Scored:
    """Return the outcome of a claim whose score is known, of which nothing was read."""
    return Scored(claim, score, claim.ref.etag, claim.ref.version_id, reused=True)


def outcomes_without_bytes(claims: Sequence[Claim], error: BaseException) -> Iterator[Outcome]:
    """Yield the outcomes of claims whose fetch failed. A score that is known stays, without measures."""
    unknown: list[Claim] = []
    for claim in claims:
        if claim.known_score is not None and isinstance(error, ImageRejected):
            yield known_outcome(claim, claim.known_score)
        else:
            unknown.append(claim)
    yield from outcomes_of_error(unknown, error)

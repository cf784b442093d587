"""Outcomes of items whose fetch, decoding or scoring failed, and retry delays. Pure but for the jitter."""

import random

from dpiqa.errors import ImageRejected, ObjectChanged, ObjectGone, Unavailable
from dpiqa.storage.outcomes import Changed, Claim, Failed, Gone, Outcome, Postponed, Rejected
from dpiqa.text import first_line


def verdict(claim: Claim, error: BaseException) -> Outcome:
    """Outcome of a claimed item whose fetch, decoding or scoring ended in `error`.

    About the image: it ends. About the world: it waits, as often as needed. Anything else: it is tried again a few
    times, and given up with the error's text.
    """
    match error:
        case ImageRejected():
            return Rejected(claim, error.reason, error.message)
        case ObjectGone():
            return Gone(claim)
        case ObjectChanged():
            return Changed(claim, error.current)
        case Unavailable():
            return Postponed(claim, delay(claim.fence), str(error))
        case _:
            return Failed(claim, first_line(error), delay(claim.fence))


def delay(attempt: int, *, base: float = 2.0, cap: float = 300.0) -> float:
    """Seconds before try `attempt + 1`: doubling from `base` up to `cap`, with half of it left to chance.

    The dice spread the images of one outage, so that they do not all come back in the same second.
    """
    whole = min(cap, base * 2.0 ** min(max(attempt, 1) - 1, 30))
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

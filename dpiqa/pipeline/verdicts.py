"""What becomes of an item when something goes wrong with its image. Pure but for the dice of the delays."""

from dpiqa.errors import ImageRejected, ObjectChanged, ObjectGone, Unavailable
from dpiqa.pipeline.backoff import delay
from dpiqa.storage.outcomes import Changed, Failed, Gone, Outcome, Postponed, Rejected
from dpiqa.storage.rows import Claim
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

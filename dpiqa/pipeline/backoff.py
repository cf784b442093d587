"""How long to wait before trying again. Pure but for the dice."""

import random


def delay(attempt: int, *, base: float = 2.0, cap: float = 300.0) -> float:
    """Seconds before try `attempt + 1`: doubling from `base` up to `cap`, with half of it left to chance.

    The dice spread the images of one outage, so that they do not all come back in the same second.
    """
    whole = min(cap, base * 2.0 ** min(max(attempt, 1) - 1, 30))
    return whole * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

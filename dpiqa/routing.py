"""Decide which images go to the teacher. Pure.

The escalated share is a budget: a teacher costs several students, so the cap holds at every moment of a job,
and of the scores that are decided together, those nearest to a cut-off (measured in margins) spend it first. A share
above 0 allows at least one image per job, even where it rounds down to none.
"""

import math
from collections.abc import Sequence

from dpiqa.profiles import Cutoff, Profile
from dpiqa.types import Route

ITEMS_PER_DECISION = 64  #: images per routing decision of `dpiqa score`; workers decide what they record together
_ROUNDING = 1e-9  #: 0.29 * 100 is 28.999999999999996


def decide(scores: Sequence[float], profile: Profile, *, scored_before: int, escalated_before: int) -> list[Route]:
    """Return the route of each of these student scores (MOS/100), in their order.

    `scored_before` and `escalated_before` count the job's images before these. Raises `ValueError` for a
    score that is not finite.
    """
    if not all(map(math.isfinite, scores)):
        raise ValueError("scores must be finite")
    if profile.teacher is None:
        return [Route.NO_TEACHER] * len(scores)
    distances = [_distance_in_margins(score, profile.cutoffs) for score in scores]
    borderline = sorted((distance, index) for index, distance in enumerate(distances) if distance <= 1)
    budget = max(0, allowed(profile.max_escalated_share, scored_before + len(scores)) - escalated_before)
    routes = [Route.CLEAR] * len(scores)
    for rank, (_, index) in enumerate(borderline):
        routes[index] = Route.BORDERLINE if rank < budget else Route.BUDGET_SPENT
    return routes


def allowed(share: float, scored: int) -> int:
    """Return how many of `scored` images may be escalated: the share rounded down, but at least one."""
    return max(1, math.floor(share * scored + _ROUNDING)) if share > 0 else 0


def _distance_in_margins(score: float, cutoffs: Sequence[Cutoff]) -> float:
    """Distance to the nearest cut-off in units of its margin: at most 1 is borderline, beyond that infinite."""
    nearest = math.inf
    for cutoff in cutoffs:
        distance = abs(score - cutoff.at)
        if distance <= cutoff.margin + _ROUNDING:
            nearest = min(nearest, 1.0, distance / cutoff.margin if cutoff.margin else 0.0)
    return nearest

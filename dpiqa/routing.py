"""Which images the teacher sees. Pure.

The escalated share is a budget: a teacher costs some forty students, so the cap holds at every moment of a job,
and within a batch the scores nearest to a cut-off (measured in margins) spend it first.
"""

import math
from collections.abc import Sequence

from dpiqa.profiles import Cutoff, Profile
from dpiqa.types import Route

_ROUNDING = 1e-9  #: 0.29 * 100 is 28.999999999999996


def decide(scores: Sequence[float], profile: Profile, *, scored_before: int, escalated_before: int) -> list[Route]:
    """Return the route of each of a batch's student scores (MOS/100), in their order.

    `scored_before` and `escalated_before` count the job's images before this batch. Raises `ValueError` for a
    score that is not finite.
    """
    if not all(map(math.isfinite, scores)):
        raise ValueError("scores must be finite")
    if profile.teacher is None:
        return [Route.NO_TEACHER] * len(scores)
    nearness = [_margins_away(score, profile.cutoffs) for score in scores]
    borderline = sorted((margins, i) for i, margins in enumerate(nearness) if margins <= 1)
    room = max(0, allowed(profile.max_escalated_share, scored_before + len(scores)) - escalated_before)
    routes = [Route.CLEAR] * len(scores)
    for rank, (_, i) in enumerate(borderline):
        routes[i] = Route.BORDERLINE if rank < room else Route.BUDGET_SPENT
    return routes


def allowed(share: float, scored: int) -> int:
    """Say how many of `scored` images may be escalated: the share rounded down, yet one, so that small jobs get one."""
    return max(1, math.floor(share * scored + _ROUNDING)) if share > 0 else 0


def _margins_away(score: float, cutoffs: Sequence[Cutoff]) -> float:
    """Distance to the nearest cut-off in units of its margin; at most 1 is borderline, infinite without cut-offs."""
    return min((_relative(abs(score - cutoff.at), cutoff.margin) for cutoff in cutoffs), default=math.inf)


def _relative(distance: float, margin: float) -> float:
    if distance <= margin + _ROUNDING:
        return min(1.0, distance / margin) if margin else 0.0
    return math.inf

"""Decisions by cut-offs: which side a score is on, which images the routing policy escalates, how often that is right.

Pure. A decision is right when the score lies on people's side of every cut-off: where a profile has two (drop, look at,
keep), both. A score or MOS equal to a cut-off is above it.
"""

from collections.abc import Sequence

import numpy as np

from dpiqa.profiles import Profile
from dpiqa.routing import decide
from dpiqa.types import Route


def sides(scores: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """`scores` (N,) -> (N, cut-offs) bool, whether each is at or above each cut-off."""
    return np.asarray(scores)[:, None] >= np.asarray(cutoffs, dtype=np.float64)[None, :]


def same_side(scores: np.ndarray, others: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """Both (N,) -> (N,) bool, whether both are on one side of every cut-off."""
    same: np.ndarray = (sides(scores, cutoffs) == sides(others, cutoffs)).all(axis=1)
    return same


def escalated(student: np.ndarray, profile: Profile, chunk: int) -> np.ndarray:
    """Apply the profile's policy to student scores (N,), in this order -> (N,) bool, which images the teacher sees.

    `chunk`: images that a worker decides about at once; within it the nearest to a cut-off go first, and the budget is
    that of all images so far. So the order of arrival matters a little.
    """
    sent: list[bool] = []
    for start in range(0, len(student), chunk):
        part = student[start : start + chunk].tolist()
        routes = decide(part, profile, scored_before=len(sent), escalated_before=sum(sent))
        sent += [route is Route.BORDERLINE for route in routes]
    return np.array(sent, dtype=bool)

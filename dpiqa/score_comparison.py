"""Two scorings of the same images: how alike they rank them, which images moved most, which decisions differ. Pure.

Scores of two scorers need not have one scale. Everything but the decisions is therefore about *ranks* within the
compared images: 0 is the worst of them under a scoring, 1 the best, images of equal scores share the mean of theirs.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dpiqa.thresholds import LEVEL
from dpiqa.types import Direction

MIN_IMAGES = 4  #: that an interval needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation of two scorings, each with its better end up."""

    value: float  #: -1 to 1
    low: float | None  #: 95 % interval by Fisher's z, with the variance of Bonett and Wright (2000)
    high: float | None  #: None: fewer than `MIN_IMAGES` images
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Decisions of a cut-off on each scoring: masks of the images, (n,) bool each; every image is in one."""

    both: np.ndarray  #: both reject
    first_alone: np.ndarray
    second_alone: np.ndarray
    neither: np.ndarray


def ranks(scores: np.ndarray, direction: Direction) -> np.ndarray:
    """Return the ranks (n,) of scores (n,), 0 the worst and 1 the best; equal scores share their mean rank."""
    if len(scores) < 2:
        return np.full(len(scores), 0.5)
    oriented = scores if direction is Direction.HIGHER else -scores
    _, places, counts = np.unique(oriented, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    of_value: np.ndarray = (last - (counts + 1) / 2) / (len(scores) - 1)
    return of_value[places]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> Correlation | None:
    """Return the correlation of ranks (n,) and (n,); None where one side has a single value."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    deviations = [side - side.mean() for side in (first, second)]
    lengths = [float(np.linalg.norm(side)) for side in deviations]
    value = float(np.clip(np.dot(*deviations) / (lengths[0] * lengths[1]), -1, 1))
    if len(first) < MIN_IMAGES or abs(value) >= 1 - 1e-12:
        return Correlation(value=value, low=None, high=None, n=len(first))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt((1 + value**2 / 2) / (len(first) - 3))
    z = math.atanh(value)
    return Correlation(value=value, low=math.tanh(z - half), high=math.tanh(z + half), n=len(first))


def moved_most(first: np.ndarray, second: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indexes of the up to `n` images whose rank rose most from first to second, and of those that fell."""
    change = second - first
    order = np.argsort(change, kind="stable")
    fell, rose = order[change[order] < 0][:n], order[::-1][change[order[::-1]] > 0][:n]
    return rose, fell


def cutoff_at_share(scores: np.ndarray, share: float, direction: Direction) -> float | None:
    """Return the cut-off that rejects a share (0-1) of scores (n,), rounded to whole images; None without scores."""
    if not len(scores):
        return None
    worst_first = np.sort(scores) if direction is Direction.HIGHER else np.sort(scores)[::-1]
    n_rejected = round(share * len(scores))
    if n_rejected < len(scores):
        return float(worst_first[n_rejected])
    return math.nextafter(float(worst_first[-1]), math.inf if direction is Direction.HIGHER else -math.inf)


def rejected(scores: np.ndarray, cutoff: float, direction: Direction) -> np.ndarray:
    """Return whether a cut-off rejects each of the scores (n,): as `dpiqa.thresholds.rejects`."""
    mask: np.ndarray = scores < cutoff if direction is Direction.HIGHER else scores > cutoff
    return mask


def decisions(first: np.ndarray, second: np.ndarray) -> Decisions:
    """Return who rejects which images. `first`, `second`: whether each scoring rejects them, (n,) bool."""
    return Decisions(
        both=first & second, first_alone=first & ~second, second_alone=~first & second, neither=~first & ~second
    )

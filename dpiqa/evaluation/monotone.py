"""Does a score fall as a distortion grows? Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

#: MOS/100. One scorer on one class of hardware repeats itself within this; a smaller difference says nothing.
TOLERANCE = 0.001


@dataclass(frozen=True, slots=True)
class Course:
    """How scores go from the original (strength 0) to the strongest distortion."""

    rises: tuple[int, ...]  #: strengths whose score is above that of some weaker one by more than the tolerance
    drop: float  #: score of the original minus that of the strongest
    tolerance: float

    @property
    def falls(self) -> bool:
        """Whether the score never rises, and ends below where it began."""
        return not self.rises and self.drop > self.tolerance

    def __str__(self) -> str:
        if self.rises:
            return f"rises at {', '.join(map(str, self.rises))}"
        return "falls" if self.falls else "does not move"


def monotone(scores: Sequence[float], tolerance: float = TOLERANCE) -> Course:
    """Judge scores in order of strength, the original's first. Raises `ValueError` for fewer than two.

    Every score is held against the lowest of all weaker ones, not only against the one before: a slow creep upwards in
    steps below the tolerance is a rise, too.
    """
    if len(scores) < 2:
        raise ValueError(f"expected the original's score and at least one more, got {len(scores)}")
    rises = []
    lowest = scores[0]
    for strength, score in enumerate(scores[1:], start=1):
        if score > lowest + tolerance:
            rises.append(strength)
        lowest = min(lowest, score)
    return Course(tuple(rises), float(scores[0] - scores[-1]), tolerance)

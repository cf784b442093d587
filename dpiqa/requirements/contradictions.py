"""Pairs that cannot all be right: the same picture with other scores, or ranks that the other pairs deny. Pure."""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.requirements.pairs import Pair, is_far
from dpiqa.requirements.prepared import Stability

#: Peak signal-to-noise ratio in dB from which two inputs count as one picture: a root mean squared difference of
#: 2.6 of 255 levels, which people take for lossless. A compressed, noisy or blurred copy worth rating lies below.
ALIKE_DB = 40.0


def refuse_copies(pairs: Sequence[Pair], digests: Sequence[str]) -> None:
    """Raise `InvalidRequest` for an image that is listed twice with one score.

    It would count twice, and vouch for itself in the leave-one-out figure. `digests`: of the pairs' bytes.
    """
    for first, second in _same(digests):
        if pairs[first].score == pairs[second].score:
            raise InvalidRequest(
                f"pairs {first + 1} and {second + 1} are the same image with the same score:"
                f" {pairs[first].path} and {pairs[second].path}",
                cure="leave one of them out",
            )


def contradictions(
    pairs: Sequence[Pair], digests: Sequence[str], pixels: np.ndarray, stability: Stability
) -> tuple[str, ...]:
    """Say, a sentence each, why the pairs cannot all be right; nothing where they can.

    `pixels` (N, H, W, 3) uint8: what the model sees of each pair. Contradictory are the same bytes with two scores,
    inputs that are alike (`ALIKE_DB`) with scores more than a grade apart, and a leave-one-out SRCC that is
    undefined or not above 0.
    """
    same = set(_same(digests))
    found = [_twice("the same image", pairs, *places) for places in sorted(same)]
    found += [_twice("alike to the model", pairs, *places) for places in _alike(pairs, pixels) if places not in same]
    if stability.is_contradictory:
        figure = "undefined" if stability.srcc is None else f"{stability.srcc:.2f}"
        found.append(f"scored by the others, the pairs do not come out in their own order: leave-one-out SRCC {figure}")
    return tuple(found)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, in dB; infinite where they are equal."""
    error = float(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _same(digests: Sequence[str]) -> Iterator[tuple[int, int]]:
    return ((i, j) for i, j in combinations(range(len(digests)), 2) if digests[i] == digests[j])


def _alike(pairs: Sequence[Pair], pixels: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield places of inputs that are one picture to the model and have far scores."""
    for i, j in combinations(range(len(pairs)), 2):
        if is_far(pairs[i].score, pairs[j].score) and psnr(pixels[i], pixels[j]) >= ALIKE_DB:
            yield i, j


def _twice(how: str, pairs: Sequence[Pair], first: int, second: int) -> str:
    one, other = pairs[first], pairs[second]
    return f"{one.path} ({one.score:g}) and {other.path} ({other.score:g}) are {how}"

"""Checks of image-score pairs: copies, contradictions, and leave-one-out stability."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.evaluation.correlation import srcc
from dpiqa.requirement import Pair, Preparation, PreparedRequirement, Stability, is_far
from dpiqa.requirements.builder import PromptModel
from dpiqa.requirements.pair_images import PairImages
from dpiqa.types import Direction


def check(
    pairs: Sequence[Pair],
    images: PairImages,
    model: PromptModel,
    *,
    force: bool,
    step: Callable[[], None] = lambda: None,
) -> Preparation:
    """Compute prompt features and leave-one-out stability; two passes of the model per pair.

    Calls `step` after each pass, which may raise to stop. Raises `InvalidRequest` for an image listed twice with
    one score and, without `force`, for pairs that contradict each other; `CheckpointError` for a broken model.
    """
    refuse_copies(pairs, images.digests)
    scores = np.array([pair.score for pair in pairs])
    parts = []
    for place in range(len(pairs)):  # one at a time: what can score an image can prepare a requirement
        parts.append(model.features(images.pixels[place : place + 1], scores[place : place + 1]))
        step()
    features = np.concatenate(parts).astype(np.float32, copy=False)
    stability = leave_one_out(model, images.pixels, scores, features, step=step)
    found = contradictions(pairs, images.digests, images.pixels, stability)
    if found and not force:
        raise InvalidRequest(
            f"the pairs contradict each other: {'; '.join(found)}",
            hint="look at these pairs again, or give more of them; --force (HTTP: `force`) accepts them as they are",
        )
    return Preparation(scorer_id=model.card.scorer_id, features=features, stability=stability, contradictions=found)


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
                hint="leave one of them out",
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


_ALL_ALIKE = 1e-6  # scores in a smaller range differ by rounding only, and have no ranks


def leave_one_out(
    model: PromptModel, pixels: np.ndarray, scores: np.ndarray, features: np.ndarray, *, step: Callable[[], None]
) -> Stability:
    """`pixels` (N, H, W, 3) uint8, `scores` (N,), `features` (N, D) of these pairs -> their stability.

    Calls `step` after each image, which may raise to stop. Raises `CheckpointError` where the model gives no number.
    """
    said = np.empty(len(scores))
    for left_out in range(len(scores)):
        others = PreparedRequirement(
            name="leave-one-out",
            version=left_out + 1,
            base_scorer_id=model.card.scorer_id,
            features=np.delete(features, left_out, axis=0),
            direction=Direction.HIGHER,  # a matter of reading scores; the model does not see it
        )
        said[left_out] = model.scorer(others).score(pixels[left_out : left_out + 1])[0]
        step()
    return stability(said, scores, model.card.name)


def stability(said: np.ndarray, given: np.ndarray, model: str) -> Stability:
    """Compare what the others say with what was given, both (N,). Raises `CheckpointError` unless all are finite."""
    if not np.isfinite(said).all():
        raise CheckpointError(
            f"{model} gave no finite score", hint=f"`dpiqa models verify {model}`, or import it again"
        )
    return Stability(
        srcc=srcc(said, given) if np.ptp(said) > _ALL_ALIKE else None,
        mae=float(np.abs(said - given).mean()),
        scores=tuple(map(float, said)),
    )

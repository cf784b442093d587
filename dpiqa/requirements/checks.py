"""Checks of image-score pairs: copies, contradictions, and leave-one-out stability."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from dpiqa.errors import CheckpointError, InvalidRequest
from dpiqa.evaluation.agreement import srcc
from dpiqa.models.base import PromptModel
from dpiqa.requirement import Pair, Preparation, PreparedRequirement, Stability, is_far
from dpiqa.requirements.pair_images import PairImages
from dpiqa.types import Direction

#: Peak signal-to-noise ratio in dB from which two inputs count as one picture: a root mean squared difference of
#: 2.6 of 255 levels, which people take for lossless. A compressed, noisy or blurred copy worth rating lies below.
ALIKE_DB = 40.0
_SAME_SCORE = 1e-6  # scores in a smaller range differ by rounding only, and have no ranks


def check(
    pairs: Sequence[Pair],
    images: PairImages,
    model: PromptModel,
    *,
    force: bool,
    step: Callable[[], None] = lambda: None,
) -> Preparation:
    """Compute prompt features and leave-one-out stability; one pass of the model per pair.

    Calls `step` after each pair, which may raise to stop. Raises `InvalidRequest` for an image listed twice with
    one score and, without `force`, for pairs that contradict each other; `CheckpointError` for a broken model.
    """
    refuse_copies(pairs, images.digests)
    scores = np.array([pair.score for pair in pairs])
    rows = []
    for index in range(len(pairs)):  # one at a time: a device that can score an image can prepare a requirement
        rows.append(model.features(images.pixels[index : index + 1], scores[index : index + 1]))
        step()
    features = np.concatenate(rows).astype(np.float32, copy=False)
    stability = leave_one_out(model, images.pixels, scores, features)
    contradictions = find_contradictions(pairs, images.digests, images.pixels, stability)
    if contradictions and not force:
        raise InvalidRequest(
            f"the pairs contradict each other: {'; '.join(contradictions)}",
            hint="look at these pairs again, or give more of them; --force (HTTP: `force`) accepts them as they are",
        )
    return Preparation(
        scorer_id=model.card.scorer_id, features=features, stability=stability, contradictions=contradictions
    )


def refuse_copies(pairs: Sequence[Pair], digests: Sequence[str]) -> None:
    """Raise `InvalidRequest` for an image that is listed twice with one score.

    It would count twice, and confirm itself in the leave-one-out figure. `digests`: of the pairs' bytes.
    """
    for first, second in _copies(digests):
        if pairs[first].score == pairs[second].score:
            raise InvalidRequest(
                f"pairs {first + 1} and {second + 1} are the same image with the same score:"
                f" {pairs[first].path} and {pairs[second].path}",
                hint="leave one of them out",
            )


def find_contradictions(
    pairs: Sequence[Pair], digests: Sequence[str], pixels: np.ndarray, stability: Stability
) -> tuple[str, ...]:
    """Return why the pairs cannot all be right, a sentence each; empty where they can.

    `pixels` (N, H, W, 3) uint8: the model's input of each pair. Contradictory are the same bytes with two scores,
    inputs that are alike (`ALIKE_DB`) with scores more than a grade apart, and a leave-one-out SRCC that is
    undefined or not above 0.
    """
    copies = sorted(set(_copies(digests)))
    sentences = [_sentence(pairs[first], pairs[second], "the same image") for first, second in copies]
    for first, second in combinations(range(len(pairs)), 2):
        far = is_far(pairs[first].score, pairs[second].score)
        if (first, second) not in copies and far and psnr(pixels[first], pixels[second]) >= ALIKE_DB:
            sentences.append(_sentence(pairs[first], pairs[second], "alike to the model"))
    if stability.is_contradictory:
        figure = "undefined" if stability.srcc is None else f"{stability.srcc:.2f}"
        sentences.append(
            f"scored by the others, the pairs do not come out in their own order: leave-one-out SRCC {figure}"
        )
    return tuple(sentences)


def _copies(digests: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the indexes of pairs whose images are the same bytes."""
    return ((i, j) for i, j in combinations(range(len(digests)), 2) if digests[i] == digests[j])


def _sentence(first: Pair, second: Pair, relation: str) -> str:
    return f"{first.path} ({first.score:g}) and {second.path} ({second.score:g}) are {relation}"


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays of one shape, in dB; infinite where they are equal."""
    error = float(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def leave_one_out(model: PromptModel, pixels: np.ndarray, scores: np.ndarray, features: np.ndarray) -> Stability:
    """Compare each pair's score with the one that the prompt features of the other pairs give its image.

    `pixels` (N, H, W, 3) uint8, `scores` (N,) in [0, 1], `features` (N, D) float32. It is quick where `features` were
    just made of these pixels: the model keeps what it knows of them. Raises `CheckpointError` where the model gives no
    finite score.
    """
    predicted = np.empty(len(scores))
    for index in range(len(scores)):
        others = PreparedRequirement(
            name="leave-one-out",
            version=index + 1,
            base_scorer_id=model.card.scorer_id,
            features=np.delete(features, index, axis=0),
            direction=Direction.HIGHER,  # only says how to read scores; the model does not see it
        )
        predicted[index] = model.scorer(others).score(pixels[index : index + 1])[0]
    if not np.isfinite(predicted).all():
        raise CheckpointError(
            f"{model.card.name} gave no finite score",
            hint=f"`dpiqa models verify {model.card.name}`, or import it again",
        )
    return Stability(
        srcc=srcc(predicted, scores) if np.ptp(predicted) > _SAME_SCORE else None,
        mae=float(np.abs(predicted - scores).mean()),
        scores=tuple(map(float, predicted)),
    )

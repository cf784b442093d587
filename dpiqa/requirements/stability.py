"""How well the pairs of a requirement agree with each other, in the eyes of the model that will use them."""

from collections.abc import Callable

import numpy as np

from dpiqa.errors import CheckpointError
from dpiqa.evaluation.correlation import srcc
from dpiqa.requirements.model import PromptModel
from dpiqa.requirements.prepared import PreparedRequirement, Stability
from dpiqa.types import Direction

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
            f"{model} gave no finite score", cure=f"`dpiqa models verify {model}`, or import it again"
        )
    return Stability(
        srcc=srcc(said, given) if np.ptp(said) > _ALL_ALIKE else None,
        mae=float(np.abs(said - given).mean()),
        scores=tuple(map(float, said)),
    )

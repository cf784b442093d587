"""Reference of a model card, made from scores of a population."""

import numpy as np

from dpiqa.errors import InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.percentiles import POINTS, Reference
from dpiqa.scorer_id import ScorerId
from dpiqa.types import Direction

_MIN_SCORES = 2  #: percentiles lie between scores
FEW = 100  #: images below which a percentile is finer than what it was made from


def make_reference(card: ModelCard, scores: np.ndarray, *, population: str, command: str) -> Reference:
    """Return the reference of the scorer of `card` from its `scores` (N,) of a population; NaN: not scored.

    Quantiles are interpolated linearly (Hyndman and Fan's type 7) and kept to six digits. Raises `InvalidRequest` for
    fewer than two scores.
    """
    finite = scores[np.isfinite(scores)]
    if len(finite) < _MIN_SCORES:
        raise InvalidRequest(f"{len(finite)} of {len(scores)} images could be scored", hint="a reference needs more")
    quantiles = np.quantile(finite, np.linspace(0, 1, POINTS))
    return Reference(
        population=population,
        n=len(finite),
        scorer_id=card.scorer_id,
        command=command,
        direction=Direction.LOWER if card.lower_is_better else Direction.HIGHER,
        quantiles=tuple(np.maximum.accumulate([float(f"{value:.6g}") for value in quantiles]).tolist()),
    )


def with_reference(card: ModelCard, reference: Reference) -> ModelCard:
    """Return the card with this reference; it replaces that of the same scorer and those of other weights."""
    weights = ScorerId.parse(reference.scorer_id).weights
    kept = [
        earlier
        for earlier in card.references
        if not earlier.fits(reference.scorer_id) and ScorerId.parse(earlier.scorer_id).weights == weights
    ]
    return card.model_copy(update={"references": (*kept, reference)})

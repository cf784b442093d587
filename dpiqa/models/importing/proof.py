"""The last step of an import: the model, as production loads it, scores one image."""

from pathlib import Path

import numpy as np

from dpiqa.errors import CheckpointError
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.loading import load_scorer
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Direction, ModelKind

_PAIRS = 5  #: of the requirement that a PromptIQA checkpoint is tried with


def prove(card: ModelCard, folder: Path) -> float:
    """Load the model from `folder` and return its score of a test image.

    Raises `CheckpointError` if it does not load or if the score is not a number.
    """
    images = _test_images(_PAIRS if card.kind is ModelKind.PROMPTIQA else 1, card)
    scorer = _prompted(card, folder, images) if card.kind is ModelKind.PROMPTIQA else _plain(card, folder)
    score = float(scorer.score(images[:1])[0])
    if not np.isfinite(score):
        raise CheckpointError(
            f"{card.name}: the score of a test image is {score}", hint="the weights are damaged, or of another model"
        )
    return score


def _plain(card: ModelCard, folder: Path) -> Scorer:
    return load_scorer(card.name, models_dir=folder, device="cpu")


def _prompted(card: ModelCard, folder: Path, images: np.ndarray) -> Scorer:
    from dpiqa.models.promptiqa.scorer import load_promptiqa  # noqa: PLC0415 - needs torch

    assert card.weights is not None  # noqa: S101 - the importer wrote them
    model = load_promptiqa(card, folder / card.weights, device="cpu", threads=None)
    features = model.features(images, np.linspace(0, 1, len(images)))
    requirement = PreparedRequirement(
        name="import-check",
        version=1,
        base_scorer_id=card.scorer_id,
        features=features,
        direction=Direction.HIGHER,
    )
    return model.scorer(requirement)


def _test_images(count: int, card: ModelCard) -> np.ndarray:
    """Soft gradients, each steeper than the last: (count, H, W, 3) uint8."""
    height, width = card.preprocessing.height, card.preprocessing.width
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    tints = np.array([1.0, 0.8, 0.6])
    return np.stack([(255 * ramp ** (1 + step) * tints).astype(np.uint8) for step in range(count)])

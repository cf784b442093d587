"""From a model's name to a scorer. Imports torch only for models that need it."""

from collections.abc import Callable
from pathlib import Path

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import ModelCard, ModelKind, Precision, Scorer
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.models.pixels import PixelScorer


def load_scorer(
    name: str,
    *,
    device: str = "auto",
    precision: Precision | None = None,
    models_dir: Path | None = None,
    threads: int | None = None,
) -> Scorer:
    """Return the scorer called `name`, its weights verified and in memory.

    `device`: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ...; `precision`: the card's unless given;
    `threads`: CPU threads torch may use. Raises `NotFound`, `CheckpointError`, `ConfigurationError`.
    """
    card = find_card(name, models_dir)
    if precision is not None:
        card = card.model_copy(update={"precision": Precision(precision)})
    if card.kind is ModelKind.PIXELS:
        return PixelScorer(card)
    verify(card, models_dir)
    weights = weights_path(card, models_dir)
    assert weights is not None  # noqa: S101 - only PIXELS cards have none, and they returned above
    return _loader(card)(card, weights, device=device, threads=threads)


def _loader(card: ModelCard) -> Callable[..., Scorer]:
    """Import what runs models of this kind, and nothing else."""
    extra = "onnx" if card.kind is ModelKind.ONNX else "models"
    try:
        if card.kind is ModelKind.ONNX:
            from dpiqa.models.onnx_scorer import load_onnx_scorer  # noqa: PLC0415 - an extra

            return load_onnx_scorer
        from dpiqa.models.torch_scorer import load_torch_scorer  # noqa: PLC0415 - torch only when needed
    except ImportError as error:
        raise ConfigurationError(
            f"{card.name} needs {error.name}, which is not installed", cure=f"pip install 'dpiqa[{extra}]'"
        ) from error
    return load_torch_scorer

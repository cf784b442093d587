"""From a choice of model to a scorer. Imports torch only for models that need it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from dpiqa.extras import required_for
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.brightness import BrightnessScorer
from dpiqa.models.cards import find_card, verify, weights_path
from dpiqa.models.choice import ModelChoice, chosen_card
from dpiqa.models.plugins import load_plugin_scorer
from dpiqa.process_tuning import limit_spinning, without_collections
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Backend, ModelKind

if TYPE_CHECKING:
    from dpiqa.models.promptiqa.scorer import PromptIQACheckpoint


def load_scorer(
    choice: ModelChoice | str,
    *,
    device: str = "auto",
    models_dir: Path | None = None,
    threads: int | None = None,
    requirement: PreparedRequirement | None = None,
    backend: Backend = Backend.EAGER,
    cache_dir: Path | None = None,
) -> Scorer:
    """Load a scorer, ready to score; its weights are verified against the card.

    Args:
        choice: a model and its options; a string: the model of that name, as its card says.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ...
        models_dir: folder of the user's own models; None: only those that come with dpiqa.
        threads: CPU threads that torch or onnxruntime may use; None: as many as they choose.
        requirement: the one that the choice names, with its prompt features: for PromptIQA models only.
        backend: library that computes a student; see `chosen_backend`. One that `auto` chose is left for eager where it
            cannot be used.
        cache_dir: folder that keeps what a backend compiled, for the next start; None: nothing is kept.

    Returns:
        The scorer. It belongs to this process and to one thread at a time.

    Raises:
        NotFound: no model has this name.
        CheckpointError: the weights are missing or damaged, or do not fit the card.
        ConfigurationError: the model does not have such an option, the device does not exist, a library is missing, or
            the backend does not give the model's scores.
        ValueError: a PromptIQA model without the features of its requirement.
    """
    choice = ModelChoice.model_validate(choice)
    card = scorer_card(choice, models_dir, backend=backend, device=device)
    if card.kind is ModelKind.PIXELS:
        return BrightnessScorer(card)
    if card.kind is ModelKind.PLUGIN:
        return load_plugin_scorer(card, device=device, threads=threads)
    verify(card, models_dir)
    weights = weights_path(card, models_dir)
    assert weights is not None  # noqa: S101 - cards of other kinds have none, and they returned above
    if card.backend is not Backend.EAGER:
        with required_for(card.name, "models"), without_collections():
            from dpiqa.models.backends.loading import load_by_backend  # noqa: PLC0415 - an extra
        falls_back = backend is Backend.AUTO
        return load_by_backend(
            card, weights, device=device, threads=threads, cache_dir=cache_dir, falls_back=falls_back
        )
    if card.kind is not ModelKind.PROMPTIQA:
        scorer: Scorer = _loader(card)(card, weights, device=device, threads=threads)
        return scorer
    if requirement is None:
        raise ValueError(f"{choice} needs the features of its requirement")
    return _checkpoint(card.model_dump_json(), weights, device, threads).scorer(requirement)


def scorer_card(choice: ModelChoice, models_dir: Path | None, *, backend: Backend, device: str) -> ModelCard:
    """Return the card of the scorer that `load_scorer` would load, but for its requirement. Weights are not read.

    Raises `NotFound`, and `ConfigurationError` for an option that the model does not have.
    """
    limit_spinning()  # torch may be imported from here on
    on_gpu = backend is Backend.AUTO and _is_gpu(device)
    return chosen_card(find_card(choice.model, models_dir), choice, backend=backend, on_gpu=on_gpu)


def _is_gpu(device: str) -> bool:
    with required_for("the device auto", "models"), without_collections():
        from dpiqa.models.torch_scorer import choose_device  # noqa: PLC0415 - an extra
    return choose_device(device).type != "cpu"


@lru_cache(maxsize=1)
def _checkpoint(card_json: str, weights: Path, device: str, threads: int | None) -> "PromptIQACheckpoint":
    """Load a checkpoint, or return the last one: the published one fills 1.3 GB, and many requirements share it."""
    card = ModelCard.model_validate_json(card_json)
    checkpoint: PromptIQACheckpoint = _loader(card)(card, weights, device=device, threads=threads)
    return checkpoint


@without_collections()
def _loader(card: ModelCard) -> Callable[..., Any]:
    """Import the function that loads models of this kind, and nothing else."""
    match card.kind:
        case ModelKind.ONNX:
            with required_for(card.name, "onnx"):
                from dpiqa.models.onnx_scorer import load_onnx_scorer  # noqa: PLC0415 - an extra
            return load_onnx_scorer
        case ModelKind.PROMPTIQA:
            with required_for(card.name, "promptiqa"):
                from dpiqa.models.promptiqa.scorer import load_promptiqa  # noqa: PLC0415 - an extra
            return load_promptiqa
        case ModelKind.STUDENT | ModelKind.TEACHER:
            with required_for(card.name, "models"):
                from dpiqa.models.torch_scorer import load_torch_scorer  # noqa: PLC0415 - an extra
            return load_torch_scorer
        case ModelKind.PIXELS | ModelKind.PLUGIN:
            raise ValueError(f"{card.name} has no weights to load")
        case _:
            assert_never(card.kind)

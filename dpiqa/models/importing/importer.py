"""The import of one file, from request to model: convert, test, put in place. All or nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from dpiqa.errors import CheckpointError
from dpiqa.extras import required_for
from dpiqa.models.base import ModelCard, Scorer
from dpiqa.models.cards import sha256_of
from dpiqa.models.folder import changing, check_new, publish_staged, staging, unwritable
from dpiqa.models.importing.sizes import complete_sizes, preprocessing_of, scale_of
from dpiqa.models.loading import load_scorer
from dpiqa.requirement import PreparedRequirement
from dpiqa.types import Direction, ModelKind

#: Kinds that compute with contiguous maps unless the user chooses otherwise. With a teacher of the published size and
#: synthetic weights, channels-last maps moved the score on a CPU by 1.0e-3 of itself, contiguous ones by 4e-5.
_CONTIGUOUS = frozenset({ModelKind.TEACHER})
_PAIRS = 5  #: of the requirement that a PromptIQA checkpoint is tested with


class About(TypedDict, total=False):
    """Facts for the card that only the user knows."""

    licence: str
    paper: str
    trained_on: str
    notes: str
    figures: dict[str, Any]


def import_checkpoint(
    file: Path,
    *,
    kind: ModelKind,
    name: str,
    models_dir: Path,
    text_embeddings: Path | None = None,
    architecture: dict[str, Any] | None = None,
    note: Callable[[str], None] = lambda _: None,
    **about: Unpack[About],
) -> ModelCard:
    """Make a model from a published file, and test it: it is put in place once it has scored an image.

    If anything fails, nothing is left of it.

    Args:
        file: the checkpoint as its authors publish it, or an ONNX file.
        kind: the model's kind.
        name: the new model's name.
        models_dir: the models folder; it is created if it is missing.
        text_embeddings: those of a published teacher's prompts.
        architecture: the network's sizes, as far as they are not the published ones.
        note: is called with remarks on the file, for the user.
        **about: facts for the card.

    Returns:
        The card of the new model.

    Raises:
        CheckpointError: the file is damaged, or of another kind or other sizes.
        InvalidRequest: the name is taken, or a size is wrong.
        ConfigurationError: the folder cannot be written, or a library is missing.
    """
    check_new(name, models_dir)
    card = _first_card(file, kind, name, architecture or {}, about)
    with changing(models_dir), staging(models_dir) as staged:
        check_new(name, models_dir)
        card = _convert(file, card, staged, text_embeddings, note)
        (staged / f"{name}.json").write_text(card.model_dump_json(), encoding="utf-8")
        try:
            score = score_of_test_image(card, staged)
        except CheckpointError as error:  # the weights are of the user's file: name that instead of ours
            reason = error.message.replace(str(staged / str(card.weights)), str(file))
            raise CheckpointError(reason if str(file) in reason else f"{file}: {reason}", hint=error.hint) from error
        publish_staged(card, staged, models_dir)
    note(f"a test image scored {score:.4f}")
    return card


def _first_card(file: Path, kind: ModelKind, name: str, architecture: dict[str, Any], about: About) -> ModelCard:
    """Make the card as far as it is known before the file is converted; its sha256 is the file's."""
    if not file.is_file():
        raise CheckpointError(f"there is no file {file}", hint="check the path")
    sizes = complete_sizes(kind, architecture)
    return ModelCard(
        name=name,
        kind=kind,
        architecture={} if kind is ModelKind.ONNX else sizes,
        weights=f"{name}.{'onnx' if kind is ModelKind.ONNX else 'safetensors'}",
        sha256=sha256_of(file),
        preprocessing=preprocessing_of(kind, sizes),
        channels_last=kind not in _CONTIGUOUS,
        score_scale=scale_of(kind),
        **{"licence": "not stated", **about},
    )


def _convert(
    file: Path, card: ModelCard, staged: Path, text_embeddings: Path | None, note: Callable[[str], None]
) -> ModelCard:
    """Write the weights into the staging folder; returns the card that describes them."""
    assert card.weights is not None  # noqa: S101 - set above
    weights = staged / card.weights
    architecture = card.architecture
    notes: tuple[str, ...] = (f"imported from {file.name} (sha256 {card.sha256})",)
    if card.kind is ModelKind.ONNX:
        try:
            shutil.copyfile(file, weights)
        except OSError as error:
            raise unwritable(staged.parent, error) from error
    else:
        with required_for(f"importing a {card.kind}", "models"):
            from dpiqa.models.importing.convert import convert  # noqa: PLC0415 - torch only when needed
        conversion = convert(file, card, weights, text_embeddings)
        for remark in conversion.notes:
            note(remark)
        architecture, notes = conversion.architecture, (*notes, *conversion.notes)
    remarks = "; ".join(filter(None, (card.notes, *notes)))
    return card.model_copy(update={"sha256": sha256_of(weights), "architecture": architecture, "notes": remarks})


def score_of_test_image(card: ModelCard, folder: Path) -> float:
    """Load the model from `folder`, as production does, and return its score of a test image.

    Raises `CheckpointError` if it does not load or if the score is not a number.
    """
    images = _test_images(_PAIRS if card.kind is ModelKind.PROMPTIQA else 1, card)
    if card.kind is ModelKind.PROMPTIQA:
        scorer = _prompted_scorer(card, folder, images)
    else:
        scorer = load_scorer(card.name, models_dir=folder, device="cpu")
    score = float(scorer.score(images[:1])[0])
    if not np.isfinite(score):
        raise CheckpointError(
            f"{card.name}: the score of a test image is {score}", hint="the weights are damaged, or of another model"
        )
    return score


def _prompted_scorer(card: ModelCard, folder: Path, images: np.ndarray) -> Scorer:
    from dpiqa.models.promptiqa.scorer import load_promptiqa  # noqa: PLC0415 - needs torch

    assert card.weights is not None  # noqa: S101 - the importer wrote them
    checkpoint = load_promptiqa(card, folder / card.weights, device="cpu", threads=None)
    features = checkpoint.features(images, np.linspace(0, 1, len(images)))
    requirement = PreparedRequirement(
        name="import-check",
        version=1,
        base_scorer_id=card.scorer_id,
        features=features,
        direction=Direction.HIGHER,
    )
    return checkpoint.scorer(requirement)


def _test_images(count: int, card: ModelCard) -> np.ndarray:
    """Return soft gradients, each steeper than the last: (count, H, W, 3) uint8."""
    height, width = card.preprocessing.height, card.preprocessing.width
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    tints = np.array([1.0, 0.8, 0.6])
    return np.stack([(255 * ramp ** (1 + step) * tints).astype(np.uint8) for step in range(count)])

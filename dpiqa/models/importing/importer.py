"""The import of one file, from request to model: convert, try, put in place. All or nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, Unpack

from dpiqa.errors import CheckpointError
from dpiqa.extras import required_for
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.models.folder import changing, check_new, publish_staged, staging, unwritable
from dpiqa.models.importing.proof import prove
from dpiqa.models.importing.sizes import complete_sizes, preprocessing_of, scale_of
from dpiqa.types import ModelKind

Say = Callable[[str], None]
_UNSAID = "not stated"
#: Kinds that compute with contiguous maps unless somebody chooses otherwise. With a teacher of the published size and
#: synthetic weights, channels-last maps moved the score on a CPU by 1.0e-3 of itself, contiguous ones by 4e-5.
_CONTIGUOUS = frozenset({ModelKind.TEACHER})


class About(TypedDict, total=False):
    """What only the user knows, and the card should say."""

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
    say: Say = lambda _: None,
    **about: Unpack[About],
) -> ModelCard:
    """Make the model `name` in `models_dir` from a published `file`; returns its card.

    `text_embeddings`: of a published teacher's prompts; `architecture`: sizes where they are not the published ones;
    `say` is told what was odd about the file. The new model has scored an image before it is in its place; if anything
    fails, nothing is left of it. Raises `CheckpointError`, `InvalidRequest`, `ConfigurationError`.
    """
    check_new(name, models_dir)
    card = _first_card(file, kind, name, architecture or {}, about)
    with changing(models_dir), staging(models_dir) as staged:
        check_new(name, models_dir)
        card = _converted(file, card, staged, text_embeddings, say)
        (staged / f"{name}.json").write_text(card.model_dump_json(), encoding="utf-8")
        score = _proved(file, card, staged)
        publish_staged(card, staged, models_dir)
    say(f"a test image scored {score:.4f}")
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
        **{"licence": _UNSAID, **about},
    )


def _converted(file: Path, card: ModelCard, staged: Path, text_embeddings: Path | None, say: Say) -> ModelCard:
    """Write the weights beside where the card will be; returns the card that describes them."""
    assert card.weights is not None  # noqa: S101 - set above
    weights = staged / card.weights
    architecture, notes = card.architecture, (f"imported from {file.name} (sha256 {card.sha256})",)
    if card.kind is ModelKind.ONNX:
        try:
            shutil.copyfile(file, weights)
        except OSError as error:
            raise unwritable(staged.parent, error) from error
    else:
        converted = _convert(file, card, weights, text_embeddings)
        for note in converted.notes:
            say(note)
        architecture, notes = converted.architecture, (*notes, *converted.notes)
    described = "; ".join(filter(None, (card.notes, *notes)))
    return card.model_copy(update={"sha256": sha256_of(weights), "architecture": architecture, "notes": described})


def _proved(file: Path, card: ModelCard, staged: Path) -> float:
    """Try the model; whatever is wrong with it is wrong with the user's file, and said of that."""
    try:
        return prove(card, staged)
    except CheckpointError as error:
        reason = error.message.replace(str(staged / str(card.weights)), str(file))
        raise CheckpointError(reason if str(file) in reason else f"{file}: {reason}", hint=error.hint) from error


def _convert(file: Path, card: ModelCard, weights: Path, text_embeddings: Path | None) -> Any:
    with required_for(f"importing a {card.kind}", "models"):
        from dpiqa.models.importing.convert import convert  # noqa: PLC0415 - torch only when needed
    return convert(file, card, weights, text_embeddings)

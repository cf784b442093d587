"""Which options a model has, and the card of the scorer that they make of it. Pure, and free of torch."""

from dpiqa.errors import ConfigurationError
from dpiqa.models.base import ModelCard
from dpiqa.models.choice import ModelChoice
from dpiqa.types import ModelKind, Precision, Stage

#: Kinds whose networks run in torch, in any precision and memory format.
_TORCH = frozenset({ModelKind.STUDENT, ModelKind.TEACHER, ModelKind.PROMPTIQA})
#: Kinds that may give the last word on borderline images.
_TEACHERS = frozenset({ModelKind.TEACHER, ModelKind.PROMPTIQA, ModelKind.PIXELS})


def chosen_card(card: ModelCard, choice: ModelChoice) -> ModelCard:
    """Return the card of the scorer that `choice` makes of the model `card`, but for its requirement.

    Raises `ConfigurationError` for an option that this kind of model does not have.
    """
    _check_requirement(card, choice)
    options = {
        "precision": choice.precision or card.precision,
        "channels_last": card.channels_last if choice.channels_last is None else choice.channels_last,
    }
    chosen = card.model_copy(update=options)
    _check_arithmetic(chosen)
    return chosen


def require_role(card: ModelCard, stage: Stage) -> None:
    """Raise `ConfigurationError` for a model that cannot be a profile's teacher. Any model may see every image."""
    if stage is Stage.TEACHER and card.kind not in _TEACHERS:
        raise ConfigurationError(
            f"{card.name} cannot be a teacher: it is of kind {card.kind}",
            cure=f"choose a model of kind {', '.join(sorted(_TEACHERS))} or leave the teacher out",
        )


def _check_requirement(card: ModelCard, choice: ModelChoice) -> None:
    wanted = card.kind is ModelKind.PROMPTIQA
    if wanted and choice.requirement is None:
        raise ConfigurationError(
            f"{card.name} scores by a requirement, and none is named",
            cure="make one with `dpiqa requirements create`; name it with --requirement, or in the profile as "
            f'{{ model = "{card.name}", requirement = "NAME@VERSION" }}',
        )
    if choice.requirement is not None and not wanted:
        raise ConfigurationError(
            f"{card.name} cannot score by a requirement: it is of kind {card.kind}",
            cure="choose a model of kind promptiqa (`dpiqa models list`), or leave the requirement out",
        )


def _check_arithmetic(card: ModelCard) -> None:
    if card.kind in _TORCH:
        return
    if card.precision is not Precision.FLOAT32:
        raise ConfigurationError(
            f"{card.name} cannot run in {card.precision}: models of kind {card.kind} run in float32 only",
            cure="leave the precision out",
        )
    if not card.channels_last:
        raise ConfigurationError(
            f"{card.name} has no memory format to choose: it is of kind {card.kind}", cure="leave channels-last out"
        )

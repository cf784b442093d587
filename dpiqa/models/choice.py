"""Choice of a scorer: a model, and the options that make it another scorer. Free of torch."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.requirement import NAME_OR_ID_PATTERN
from dpiqa.text import first_field_error
from dpiqa.types import Backend, ModelKind, Precision, Stage

if TYPE_CHECKING:  # cards import Pillow, which the API does without
    from dpiqa.models.base import ModelCard

#: `portraits` (the newest version) or `portraits@2`.
RequirementName = Annotated[str, StringConstraints(pattern=NAME_OR_ID_PATTERN)]
#: Kinds whose networks run in torch, in any precision and memory format.
_TORCH = frozenset({ModelKind.STUDENT, ModelKind.TEACHER, ModelKind.PROMPTIQA})
#: What `auto` takes on a CPU, the first that is installed: in the order of their measured speed (docs/models.md).
_FASTEST_FIRST = (Backend.OPENVINO, Backend.ONNXRUNTIME)
#: Kinds that may act as teacher.
_TEACHERS = frozenset({ModelKind.TEACHER, ModelKind.PROMPTIQA, ModelKind.PIXELS, ModelKind.PLUGIN})


class ModelChoice(BaseModel):
    """A model by name, and how it is to run. Options that are None are those of its card.

    In a profile's TOML it may be a plain string, the model's name, or an inline table:
    `{ model = "promptiqa-koniq", requirement = "portraits@1", precision = "bfloat16" }`. A choice without options is
    written as the plain string again, so that definitions of profiles that were stored before stay equal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1)]  #: name, see `dpiqa models list`
    precision: Precision | None = None
    channels_last: bool | None = None  #: memory format of a torch network's maps
    requirement: RequirementName | None = None  #: what quality means to a PromptIQA model

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @field_validator("model")
    @classmethod
    def _plain(cls, name: str) -> str:
        return plain_name(name)

    @model_serializer(mode="wrap")
    def _shortest(self, write: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        fields = {name: value for name, value in write(self).items() if value is not None}
        return self.model if fields.keys() == {"model"} else fields

    def __str__(self) -> str:
        """Return what people see, e.g. `bundled-student`, or `promptiqa-koniq (portraits@1, bfloat16)`."""
        memory = {None: None, True: "channels last", False: "channels first"}[self.channels_last]
        options = ", ".join(filter(None, (self.requirement, self.precision, memory)))
        return f"{self.model} ({options})" if options else self.model


def plain_name(name: str) -> str:
    """Return a model's name as its card has it: `pyiqa:niqe` is `pyiqa.niqe`. Scorer ids have colons of their own."""
    return name.replace(":", ".", 1)


def parse_choice(**options: Any) -> "ModelChoice":
    """Return the choice of these fields. Raises `InvalidRequest` in one line."""
    try:
        return ModelChoice.model_validate(options)
    except ValidationError as error:
        wrong = first_field_error(error)
        raise InvalidRequest(f"{wrong.field} {options.get(wrong.field)!r}: {wrong.message}") from error


def chosen_card(
    card: "ModelCard", choice: ModelChoice, *, backend: Backend = Backend.EAGER, on_gpu: bool = False
) -> "ModelCard":
    """Return the card of the scorer that `choice` makes of the model `card`, but for its requirement.

    `backend` and `on_gpu` are those of the process: see `chosen_backend`. Raises `ConfigurationError` for an option
    that this kind of model does not have.
    """
    _check_requirement(card, choice)
    options = {
        "precision": choice.precision or card.precision,
        "channels_last": card.channels_last if choice.channels_last is None else choice.channels_last,
    }
    variant = card.model_copy(update=options)
    _check_arithmetic(variant)
    return variant.model_copy(update={"backend": chosen_backend(variant, backend, on_gpu=on_gpu)})


def chosen_backend(card: "ModelCard", backend: Backend, *, on_gpu: bool) -> Backend:
    """Return the backend that computes a model, never `auto`.

    Models other than students run in eager PyTorch, or in a library of their own, whatever the backend. `auto` follows
    a rule and measures nothing, so that the same installation always makes the same scorer: on a CPU OpenVINO, else
    ONNX Runtime, if it is installed; eager on a GPU, in less precision than float32, and for small students, most of
    whose work is scene statistics (docs/models.md): no other backend computes these faster.

    Args:
        card: the model, in the precision that it will run in.
        backend: what the process was told to use.
        on_gpu: whether the model will run on a GPU; of interest for `auto` only.
    """
    if card.kind is not ModelKind.STUDENT:
        return Backend.EAGER
    if backend is not Backend.AUTO:
        return backend
    is_mostly_statistics = card.architecture.get("pooling") == "moments"
    if on_gpu or card.precision is not Precision.FLOAT32 or is_mostly_statistics:
        return Backend.EAGER
    if find_spec("onnx") is None:  # without it PyTorch makes no graph
        return Backend.EAGER
    return next((library for library in _FASTEST_FIRST if find_spec(library) is not None), Backend.EAGER)


def require_role(card: "ModelCard", stage: Stage) -> None:
    """Raise `ConfigurationError` for a model that cannot be a profile's teacher. Any model may see every image."""
    if stage is Stage.TEACHER and card.kind not in _TEACHERS:
        raise ConfigurationError(
            f"{card.name} cannot be a teacher: it is of kind {card.kind}",
            hint=f"choose a model of kind {', '.join(sorted(_TEACHERS))} or leave the teacher out",
        )


def _check_requirement(card: "ModelCard", choice: ModelChoice) -> None:
    takes_requirement = card.kind is ModelKind.PROMPTIQA
    if takes_requirement and choice.requirement is None:
        raise ConfigurationError(
            f"{card.name} scores by a requirement, and none is named",
            hint="make one with `dpiqa requirements create`; name it with --requirement, or in the profile as "
            f'{{ model = "{card.name}", requirement = "NAME@VERSION" }}',
        )
    if choice.requirement is not None and not takes_requirement:
        raise ConfigurationError(
            f"{card.name} cannot score by a requirement: it is of kind {card.kind}",
            hint="choose a model of kind promptiqa (`dpiqa models list`), or leave the requirement out",
        )


def _check_arithmetic(card: "ModelCard") -> None:
    if card.kind in _TORCH:
        return
    if card.precision is not Precision.FLOAT32:
        raise ConfigurationError(
            f"{card.name} cannot run in {card.precision}: models of kind {card.kind} run in float32 only",
            hint="leave the precision out",
        )
    if not card.channels_last:
        raise ConfigurationError(
            f"{card.name} has no memory format to choose: it is of kind {card.kind}", hint="leave channels-last out"
        )

"""Which scorer somebody wants: a model, and the options that make it another scorer. Free of torch."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from dpiqa.errors import InvalidRequest
from dpiqa.types import Precision

#: `portraits` (the newest version) or `portraits@2`.
RequirementName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*(@[1-9][0-9]*)?$")]


def parse_choice(**given: Any) -> "ModelChoice":
    """Return the choice of these fields. Raises `InvalidRequest` in one line."""
    try:
        return ModelChoice.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{first['loc'][0]} {first['input']!r}: {first['msg']}") from error


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

    @model_serializer(mode="wrap")
    def _shortest(self, write: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        given = {name: value for name, value in write(self).items() if value is not None}
        return self.model if given.keys() == {"model"} else given

    def __str__(self) -> str:
        """Return what people see, e.g. `bundled-student`, or `promptiqa-koniq (portraits@1, bfloat16)`."""
        memory = {None: None, True: "channels last", False: "channels first"}[self.channels_last]
        options = ", ".join(filter(None, (self.requirement, self.precision, memory)))
        return f"{self.model} ({options})" if options else self.model
